// The settings of the form as one plain object, and their conversion to the body of a request and back.

export const TIERS = {
  off: {name: 'Exact', hint: 'every step'},
  careful: {name: 'Careful', hint: 'skips steps that change little'},
  fast: {name: 'Fast', hint: 'skips more of them'},
};
// A loaded request has its own rule for skipping steps.
export const OWN_TIER = 'own';

// The knobs of sparse attention that the page offers; their names are keys below `attn`.
export const KNOBS = [
  {
    key: 'top_keys',
    name: 'Keys kept',
    share: true,
    min: 0.01,
    max: 1,
    otherwise: 0.05,
    hint: 'share of the keys that each group of queries attends to',
  },
  {
    key: 'random_keys',
    name: 'Random keys',
    share: true,
    min: 0,
    max: 0.2,
    otherwise: 0.01,
    hint: 'further keys, chosen by the seed',
  },
  {
    key: 'local_1d_window',
    name: 'Window',
    share: true,
    min: 0,
    max: 1,
    otherwise: 0,
    hint: 'keys near by in token order',
  },
  {
    key: 'local_voxels',
    name: 'Local voxels',
    min: 0,
    max: 3,
    otherwise: 0,
    hint: '1: its own box; 2, 3: more to each side',
  },
  {
    key: 'first_n_dense_layers',
    name: 'Dense layers',
    min: 0,
    max: 48,
    otherwise: 2,
    hint: 'layers at the start that stay dense',
  },
  {
    key: 'delta',
    name: 'Correction',
    values: ['half_merge', 'lse_merge', 'weighted', 'subtract'],
    otherwise: 'half_merge',
    hint: 'how the other keys are accounted for',
  },
];

// Fields that the form shows; anything else that is loaded travels along as `extras`.
const SHOWN = [
  'prompt',
  'negative_prompt',
  'width',
  'height',
  'num_frames',
  'seed',
  'num_steps',
  'cfg_scale',
  'noise_source',
  'fps',
  'skip',
  'sparsity',
  'no_sparsity',
  'lora',
];
const ALIASES = {num_inference_steps: 'num_steps', guidance_scale: 'cfg_scale'};

export function defaultsOf(model) {
  const {width, height, num_frames, num_steps, cfg_scale, fps, negative_prompt} = model.defaults;
  return {
    prompt: '',
    negative_prompt: negative_prompt ?? '',
    width,
    height,
    num_frames,
    seed: '',
    num_steps,
    cfg_scale,
    fps: String(fps ?? 24),
    noise_source: 'mochi',
    skip: 'careful',
    loras: {},
    sparse: false,
    attn: {},
    sparsity: null,
    extras: {},
  };
}

const copy = (value) => JSON.parse(JSON.stringify(value ?? {}));

// The configuration whose values the knobs show.
export const baseOf = (settings, model) => settings.sparsity ?? model.sparsity ?? {};

export function sparsityOf(settings, model) {
  const isOwn = settings.skip === OWN_TIER;
  if (!settings.sparse && !isOwn) return undefined;
  const config = copy(baseOf(settings, model));
  if (!isOwn) delete config.step_skipping;
  config.attn = {
    ...config.attn,
    ...(settings.sparse ? settings.attn : {}),
    is_enabled: settings.sparse,
  };
  return config;
}

// Returns the body of POST /v1/videos.
export function toRequest(settings, model) {
  const {
    prompt,
    negative_prompt,
    width,
    height,
    num_frames,
    num_steps,
    cfg_scale,
    noise_source,
    fps,
    skip,
  } = settings;
  const body = {
    ...settings.extras,
    prompt,
    negative_prompt,
    width,
    height,
    num_frames,
    num_steps,
    cfg_scale,
    noise_source,
    fps: Number.isNaN(Number(fps)) ? fps : Number(fps),
    // Larger integers than a number can hold travel as text.
    seed:
      settings.seed === ''
        ? 'random'
        : Number.isSafeInteger(Number(settings.seed))
          ? Number(settings.seed)
          : settings.seed,
  };
  if (skip !== OWN_TIER && !('max_evaluations' in body)) body.skip = skip;
  const sparsity = sparsityOf(settings, model);
  if (sparsity) body.sparsity = sparsity;
  const loras = Object.entries(settings.loras).map(([name, scale]) => `${name}:${scale}`);
  if (loras.length > 0) body.lora = loras;
  if ('cfg_schedule' in body) delete body.cfg_scale;
  return body;
}

// "name:0.8" and "name" are LoRAs; a scale is what follows the last colon.
function lorasOf(value) {
  const found = {};
  for (const text of [value ?? []].flat()) {
    const [, name, scale] = /^(.*?)(?::(-?[\d.]+))?$/.exec(text);
    found[name] = Number(scale ?? 1);
  }
  return found;
}

// A sidecar names the LoRAs of its video as files, a request by their names.
function lorasOfSidecar(parsed) {
  const loras = parsed?.model?.loras;
  if (!Array.isArray(loras)) return undefined;
  return loras.map(({path, scale}) => {
    const name = String(path).split('/').pop().replace(/\.safetensors$/, '');
    return `${name}:${scale ?? 1}`;
  });
}

// Returns the request in a parsed JSON file: a sidecar's section `request`, or the object itself.
export function requestIn(parsed) {
  const request = parsed?.request ?? parsed;
  if (
    typeof request !== 'object' ||
    request === null ||
    Array.isArray(request) ||
    typeof request.prompt !== 'string'
  ) {
    throw new Error('no request with a prompt was found in it');
  }
  const renamed = {};
  for (const [name, value] of Object.entries(request)) renamed[ALIASES[name] ?? name] = value;
  if (typeof renamed.size === 'string')
    [renamed.width, renamed.height] = renamed.size.split('x').map(Number);
  if (renamed.seconds !== undefined && renamed.num_frames === undefined) {
    renamed.num_frames =
      Math.max(0, Math.round((Number(renamed.seconds) * (Number(renamed.fps) || 24) - 1) / 6)) * 6 +
      1;
  }
  renamed.lora ??= lorasOfSidecar(parsed);
  if (renamed.lora === undefined) delete renamed.lora;
  delete renamed.size;
  delete renamed.seconds;
  delete renamed.model;
  return renamed;
}

// Returns the settings that make the same video as the request.
export function fromRequest(request, model) {
  const settings = defaultsOf(model);
  for (const name of [
    'prompt',
    'negative_prompt',
    'width',
    'height',
    'num_frames',
    'num_steps',
    'cfg_scale',
    'noise_source',
  ]) {
    if (request[name] !== undefined && request[name] !== null) settings[name] = request[name];
  }
  if (request.fps) settings.fps = String(request.fps);
  settings.seed = request.seed === 'random' ? '' : String(request.seed ?? 0);
  settings.loras = lorasOf(request.lora);
  const sparsity = request.no_sparsity ? null : request.sparsity;
  settings.skip = request.skip ?? (sparsity?.step_skipping ? OWN_TIER : 'off');
  if (sparsity) {
    settings.sparsity = copy(sparsity);
    settings.sparse = Boolean(sparsity.attn) && sparsity.attn.is_enabled !== false;
  }
  for (const [name, value] of Object.entries(request)) {
    if (!SHOWN.includes(name) && value !== null) settings.extras[name] = value;
  }
  // 0 means the default, half of the steps.
  if (settings.extras.linear_steps === 0) delete settings.extras.linear_steps;
  for (const name of ['linear_steps', 'threshold_noise']) {
    if (settings.extras[name] === defaultOfExtra(name, settings, model))
      delete settings.extras[name];
  }
  return settings;
}

function defaultOfExtra(name, settings, model) {
  if (name === 'linear_steps')
    return model.defaults.linear_steps || Math.floor(settings.num_steps / 2);
  return model.defaults[name];
}

// Sizes to choose from: the model's own, upright, square, and half as large.
export function presetsOf(model) {
  const {width, height} = model.defaults;
  const multiple = model.sizes?.multiple ?? 16;
  const round = (length) => Math.max(multiple, Math.round(length / multiple) * multiple);
  const side = round(Math.sqrt(width * height));
  const presets = [
    {name: 'Wide', width, height},
    {name: 'Tall', width: height, height: width},
    {name: 'Square', width: side, height: side},
    {name: 'Small', width: round(width / 2), height: round(height / 2)},
  ];
  return presets;
}
