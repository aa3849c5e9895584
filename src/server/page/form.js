// The form: its fields, and what the video that they describe will cost.
import {post, Refused} from './api.js';
import {$, debounce, duration, h, iconButton, randomSeed, rateOf, saved} from './dom.js';
import {clearErrors, showError} from './errors.js';
import {
  baseOf,
  defaultsOf,
  fromRequest,
  KNOBS,
  OWN_TIER,
  presetsOf,
  requestIn,
  TIERS,
  toRequest,
} from './settings.js';

const TEXTS = ['prompt', 'negative_prompt', 'seed', 'fps'];
const NUMBERS = ['width', 'height', 'num_frames', 'cfg_scale', 'num_steps'];
const LONGEST_FRAMES = 163;

export class Form {
  #model;
  #settings;
  #isCustomSize = false;
  #estimating = null;
  #estimateSoon = debounce(300, () => this.#estimate());

  constructor(model, {onsubmit}) {
    this.#model = model;
    this.#settings = {...defaultsOf(model), ...saved.get(`form.${model.id}`)};
    this.#build();
    this.#show();
    $('form').addEventListener('submit', onsubmit);
    document.addEventListener('keydown', (event) => {
      if (
        event.key === 'Enter' &&
        (event.ctrlKey || event.metaKey) &&
        !document.querySelector('dialog[open]')
      ) {
        event.preventDefault();
        onsubmit();
      }
    });
  }

  request() {
    return toRequest(this.#settings, this.#model);
  }

  load(request) {
    this.#settings = fromRequest(requestIn(request), this.#model);
    clearErrors();
    this.#show();
    this.#changed();
  }

  reset() {
    this.#settings = defaultsOf(this.#model);
    clearErrors();
    this.#show();
    this.#changed();
  }

  usePrompt(prompt) {
    this.#settings.prompt = prompt;
    this.#show();
    this.#changed();
    $('prompt').focus();
  }

  refreshEstimate() {
    this.#estimateSoon();
  }

  #build() {
    const {frames = {}, defaults} = this.#model;
    Object.assign($('num_frames'), {
      min: frames.plus ?? 1,
      step: frames.multiple ?? 6,
      max: Math.max(LONGEST_FRAMES, defaults.num_frames),
    });
    $('multiple').textContent = this.#model.sizes?.multiple ?? 16;
    for (const name of ['width', 'height']) $(name).step = this.#model.sizes?.multiple ?? 16;
    $('prompt').placeholder = defaults.prompt;
    for (const name of TEXTS)
      $(name).addEventListener('input', () => this.#set(name, $(name).value.trimStart()));
    for (const name of NUMBERS)
      $(name).addEventListener('input', () =>
        this.#set(name, $(name).value === '' ? null : $(name).valueAsNumber),
      );
    $('noise_source').addEventListener('change', () =>
      this.#set('noise_source', $('noise_source').value),
    );
    $('sparse').addEventListener('change', () => {
      this.#set('sparse', $('sparse').checked);
      this.#showKnobs();
    });
    $('dice').addEventListener('click', () => {
      this.#set('seed', String(randomSeed()));
      $('seed').value = this.#settings.seed;
    });
    $('reset').addEventListener('click', () => this.reset());
    // The fields that appear must not be hidden below the Make button.
    $('more').querySelector('summary').addEventListener('click', () =>
      requestAnimationFrame(() => $('more').open && $('more').scrollIntoView({block: 'nearest'})),
    );
    this.#buildSizes();
    this.#buildTiers();
  }

  #buildSizes() {
    const choice = (value, name, onchange) =>
      h(
        'label',
        {class: 'choice'},
        h('input', {type: 'radio', name: 'preset', value, class: 'unseen', onchange}),
        h('span', {class: `shape ${name.toLowerCase()}`}),
        h('b', {}, name),
      );
    for (const {name, width, height} of presetsOf(this.#model)) {
      $('sizes').append(
        choice(`${width}x${height}`, name, () => {
          this.#isCustomSize = false;
          this.#settings.width = width;
          this.#set('height', height);
          this.#showSize();
        }),
      );
    }
    $('sizes').append(
      choice('custom', 'Custom', () => {
        this.#isCustomSize = true;
        this.#showSize();
        $('width').focus();
      }),
    );
  }

  #buildTiers() {
    for (const [tier, {name, hint}] of [
      ...Object.entries(TIERS),
      [OWN_TIER, {name: 'As loaded', hint: 'the rule of the loaded video'}],
    ]) {
      $('tiers').append(
        h(
          'label',
          {class: 'choice', id: `tier_${tier}`, title: hint},
          h('input', {
            type: 'radio',
            name: 'skip',
            value: tier,
            class: 'unseen',
            onchange: () => this.#set('skip', tier),
          }),
          h('b', {}, name),
          h('small', {id: `cost_${tier}`}, '–'),
        ),
      );
    }
  }

  #set(name, value) {
    this.#settings[name] = value;
    if (name === 'num_frames') this.#showLength();
    clearErrors(name);
    this.#changed();
  }

  #changed() {
    saved.set(`form.${this.#model.id}`, this.#settings);
    this.#estimateSoon();
  }

  #show() {
    for (const name of [...TEXTS, ...NUMBERS]) $(name).value = this.#settings[name] ?? '';
    $('noise_source').value = this.#settings.noise_source;
    $('sparse').checked = this.#settings.sparse;
    $('sparsity_field').hidden = !this.#model.sparsity && !this.#settings.sparsity;
    const {width, height} = this.#settings;
    this.#isCustomSize = !presetsOf(this.#model).some(
      (preset) => preset.width === width && preset.height === height,
    );
    this.#showSize();
    this.#showLength();
    this.#showTier();
    this.#showLoras();
    this.#showKnobs();
    this.#showExtras();
    this.#estimateSoon();
  }

  #showSize() {
    const {width, height} = this.#settings;
    const value = this.#isCustomSize ? 'custom' : `${width}x${height}`;
    for (const input of $('sizes').querySelectorAll('input')) input.checked = input.value === value;
    $('custom_size').hidden = !this.#isCustomSize;
    $('size').textContent = this.#isCustomSize ? '' : `${width} × ${height}`;
    Object.assign($('width'), {value: width});
    Object.assign($('height'), {value: height});
  }

  #showLength() {
    const {num_frames, fps} = this.#settings;
    $('length').textContent =
      `${(num_frames / rateOf(fps)).toFixed(1)} s · ${num_frames} frame${num_frames === 1 ? '' : 's'}`;
  }

  #showTier() {
    $(`tier_${OWN_TIER}`).hidden = this.#settings.skip !== OWN_TIER;
    for (const input of $('tiers').querySelectorAll('input'))
      input.checked = input.value === this.#settings.skip;
  }

  #showLoras() {
    const names = [
      ...new Set([...(this.#model.loras ?? []), ...Object.keys(this.#settings.loras)]),
    ];
    $('lora_field').hidden = names.length === 0;
    $('loras').replaceChildren(...names.map((name) => this.#lora(name)));
  }

  #lora(name) {
    const scale = this.#settings.loras[name];
    const shown = h('output', {}, (scale ?? 1).toFixed(2));
    const range = h('input', {
      type: 'range',
      min: 0,
      max: 2,
      step: 0.05,
      value: String(scale ?? 1),
      'aria-label': `Strength of ${name}`,
      hidden: scale === undefined,
      oninput: () => {
        shown.textContent = range.valueAsNumber.toFixed(2);
        this.#settings.loras[name] = range.valueAsNumber;
        this.#changed();
      },
    });
    shown.hidden = range.hidden;
    const box = h('input', {
      type: 'checkbox',
      checked: scale !== undefined,
      onchange: () => {
        range.hidden = shown.hidden = !box.checked;
        if (box.checked) this.#settings.loras[name] = range.valueAsNumber;
        else delete this.#settings.loras[name];
        clearErrors('lora');
        this.#changed();
      },
    });
    return h(
      'div',
      {class: 'lora'},
      h('label', {class: 'switch'}, box, h('span', {}, h('b', {}, name))),
      range,
      shown,
    );
  }

  #showKnobs() {
    $('knobs').hidden = !this.#settings.sparse;
    if (this.#settings.sparse) $('knobs').replaceChildren(...KNOBS.map((knob) => this.#knob(knob)));
  }

  #knob({key, name, share, min, max, values, otherwise, hint}) {
    const value =
      this.#settings.attn[key] ?? baseOf(this.#settings, this.#model).attn?.[key] ?? otherwise;
    const id = `knob_${key}`;
    const set = (changed) => {
      this.#settings.attn[key] = changed;
      clearErrors('sparsity');
      this.#changed();
    };
    const control = values
      ? h(
          'select',
          {id, onchange: (event) => set(event.target.value)},
          ...values.map((each) => h('option', {value: each, selected: each === value}, each)),
        )
      : h('input', {
          id,
          type: 'number',
          min: share ? min * 100 : min,
          max: share ? max * 100 : max,
          step: share ? 'any' : 1,
          inputmode: 'decimal',
          value: String(share ? Number((value * 100).toFixed(3)) : value),
          oninput: (event) => {
            if (event.target.value !== '')
              set(share ? event.target.valueAsNumber / 100 : event.target.valueAsNumber);
          },
        });
    return h(
      'div',
      {class: 'knob'},
      h('label', {for: id}, h('b', {}, share ? `${name}, %` : name), h('small', {}, hint)),
      control,
    );
  }

  #showExtras() {
    const extras = Object.entries(this.#settings.extras);
    $('extras').hidden = extras.length === 0;
    $('extras').replaceChildren(
      h('p', {class: 'hint'}, 'Also loaded:'),
      ...extras.map(([name, value]) => {
        const text = `${name}: ${JSON.stringify(value)}`;
        return h(
          'span',
          {class: 'chip', title: text},
          h('span', {}, text),
          iconButton('close', `Leave ${name} out`, () => {
            delete this.#settings.extras[name];
            this.#showExtras();
            this.#changed();
          }),
        );
      }),
    );
  }

  // Predicts the seconds of each tier. The server checks the other fields on the way.
  async #estimate() {
    this.#estimating?.abort();
    const {signal} = (this.#estimating = new AbortController());
    const own = this.#settings.skip === OWN_TIER ? [OWN_TIER] : [];
    const costs = await Promise.all(
      [...Object.keys(TIERS), ...own].map((tier) => this.#cost(tier, signal)),
    );
    if (signal.aborted) return;
    [...Object.keys(TIERS), ...own].forEach((tier, i) => {
      const {seconds, basis} = costs[i] ?? {};
      $(`cost_${tier}`).textContent =
        typeof seconds === 'number'
          ? `${basis === 'scaled' ? '≈ ' : ''}${duration(seconds)}`
          : costs[i]
            ? 'not measured'
            : '–';
      $(`tier_${tier}`).dataset.basis = basis ?? '';
    });
  }

  async #cost(tier, signal) {
    const body = toRequest(
      {...this.#settings, skip: tier, prompt: this.#settings.prompt.trim() || 'x'},
      this.#model,
    );
    try {
      return await post('/v1/videos/estimate', body, {signal});
    } catch (error) {
      if (error instanceof Refused && error.status === 400 && tier === this.#settings.skip)
        showError(error, {isSoft: true});
      return null;
    }
  }
}
