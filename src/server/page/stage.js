// The large view in the centre: nothing yet, a running video, a finished one, or one that failed.
import {videoUrls} from './api.js';
import {announce, button, duration, h, icon, rateOf} from './dom.js';
import {Player} from './player.js';
import {Preview} from './preview.js';
import {TIERS} from './settings.js';
import {isActive} from './videos.js';

const PHASES = {
  loading: 'Loading the model',
  text: 'Reading the prompt',
  sampling: 'Sampling',
  decoding: 'Decoding',
};
const ORDINALS = new Intl.PluralRules('en', {type: 'ordinal'});
const ENDINGS = {one: 'st', two: 'nd', few: 'rd', other: 'th'};

export function placeOf(video) {
  const place = video.queue_position;
  if (place === null || place === undefined) return 'Waiting';
  return place === 0
    ? 'Next in line'
    : `${place + 1}${ENDINGS[ORDINALS.select(place + 1)]} in line`;
}

// "Sampling, step 12 of 64", for people and screen readers.
export function workOf(video) {
  if (video.status === 'queued') return placeOf(video);
  if (video.phase === 'sampling') return `Sampling, step ${video.step} of ${video.num_steps}`;
  if (video.phase === 'decoding' && video.num_total > 1)
    return `Decoding, frame ${video.num_done} of ${video.num_total}`;
  if (video.phase === 'loading' && video.item) return `Preparing the ${video.item}`;
  return PHASES[video.phase] ?? 'Starting';
}

export const sizeOf = (video) => {
  const [width, height] = video.size.split('x').map(Number);
  return {width, height};
};

export class Stage {
  #shown = '';
  #preview = null;
  #spoken = '';

  // `actions` has again, vary, remix, compare, save, remove, cancel and tryPrompt.
  constructor(element, actions) {
    Object.assign(this, {element, actions});
  }

  showNothing(model) {
    if (this.#shown === 'nothing') return;
    this.#shown = 'nothing';
    this.element.replaceChildren(
      h(
        'div',
        {class: 'blank'},
        h('div', {class: 'ripple', 'aria-hidden': 'true'}, h('i'), h('i'), h('i'), icon('play')),
        h('p', {class: 'lead'}, 'Describe a video.'),
        h(
          'p',
          {class: 'hint'},
          'It takes shape here while it is being made. To make one again, drop its JSON file anywhere.',
        ),
        model.defaults.prompt
          ? button(
              `“${model.defaults.prompt}”`,
              () => this.actions.tryPrompt(model.defaults.prompt),
              {kind: 'try', title: 'Use this prompt'},
            )
          : null,
      ),
    );
  }

  show(video) {
    const shown = `${video.id} ${isActive(video) ? 'active' : video.status}`;
    if (this.#shown !== shown) {
      this.#shown = shown;
      this.#preview = null;
      if (isActive(video)) this.#buildActive(video);
      else if (video.status === 'failed') this.#buildFailed(video);
      else this.#buildFinished(video);
    }
    if (isActive(video)) this.#showProgress(video);
  }

  // Another view takes the stage.
  leave() {
    this.#shown = '';
  }

  showPreview(preview) {
    this.#preview?.show(preview).catch(() => {});
  }

  #frame(video, ...children) {
    const {width, height} = sizeOf(video);
    const frame = h('div', {class: 'frame'}, ...children);
    frame.style.setProperty('--w', width);
    frame.style.setProperty('--h', height);
    return frame;
  }

  #buildActive(video) {
    const canvas = h('canvas', {
      class: 'preview',
      role: 'img',
      'aria-label': 'Preview of the running video',
    });
    this.#preview = new Preview(
      canvas,
      (1000 * video.request.num_frames) / rateOf(video.request.fps),
    );
    this.bar = h(
      'div',
      {
        class: 'bar',
        role: 'progressbar',
        'aria-label': 'Progress',
        'aria-valuemin': '0',
        'aria-valuemax': '100',
      },
      h('i'),
    );
    this.work = h('p', {class: 'work'});
    this.left = h('p', {class: 'left'});
    this.element.replaceChildren(
      this.#frame(video, h('div', {class: 'waiting', 'aria-hidden': 'true'}), canvas),
      h('div', {class: 'progress'}, this.bar, h('div', {class: 'label-row'}, this.work, this.left)),
      h(
        'div',
        {class: 'caption'},
        h('p', {class: 'prompt'}, video.prompt),
        h(
          'div',
          {class: 'actions'},
          button('Cancel', () => this.actions.cancel(video.id), {image: 'close', id: 'cancel'}),
        ),
        detailsOf(video),
      ),
    );
  }

  #showProgress(video) {
    const percent = Math.round(video.progress ?? 0);
    this.bar.setAttribute('aria-valuenow', percent);
    this.bar.setAttribute('aria-valuetext', `${percent} %, ${workOf(video)}`);
    this.bar.firstChild.style.transform = `scaleX(${percent / 100})`;
    this.bar.classList.toggle('idle', video.status === 'queued');
    this.work.textContent = workOf(video);
    const {seconds_left: left} = video;
    this.left.textContent =
      typeof left === 'number' && video.status !== 'queued' ? `${duration(left)} left` : '';
    // Spoken at a change of the phase and every quarter, no oftener.
    const spoken = `${video.id} ${video.status} ${video.phase} ${Math.floor(percent / 25)}`;
    if (spoken !== this.#spoken) announce(`${percent} %, ${workOf(video)}`);
    this.#spoken = spoken;
  }

  #buildFailed(video) {
    this.element.replaceChildren(
      h(
        'div',
        {class: 'failed'},
        h('p', {class: 'lead'}, 'This video failed.'),
        h('p', {class: 'reason'}, video.error?.message ?? 'The server gave no reason.'),
        h('p', {class: 'prompt'}, video.prompt),
        h(
          'div',
          {class: 'actions'},
          button('Again', () => this.actions.again(video), {image: 'again'}),
          button('Delete', () => this.actions.remove(video), {image: 'bin'}),
        ),
      ),
    );
  }

  #buildFinished(video) {
    const clip = h('video', {class: 'clip', 'aria-label': video.prompt});
    const frame = this.#frame(video, h('div', {class: 'waiting', 'aria-hidden': 'true'}), clip);
    const surface = h(
      'div',
      {
        class: 'surface',
        tabIndex: 0,
        role: 'group',
        'aria-label': 'Player: space plays, arrow keys step by one frame',
      },
      frame,
    );
    const {fps, num_frames: numFrames} = video.request;
    const player = new Player([clip], {fps: rateOf(fps), numFrames, surface});
    clip.addEventListener('click', () => player.toggle());
    surface.append(player.element);
    this.element.replaceChildren(surface, this.#captionOf(video));
    videoUrls.get(video.id).then(
      (url) => {
        clip.src = url;
        clip.classList.add('shown');
      },
      (error) => frame.append(h('p', {class: 'reason', role: 'alert'}, error.message)),
    );
  }

  #captionOf(video) {
    const act = this.actions;
    return h(
      'div',
      {class: 'caption'},
      h('p', {class: 'prompt'}, video.prompt),
      h(
        'div',
        {class: 'actions'},
        button('Again', () => act.again(video), {
          image: 'again',
          title: 'Put these settings into the form',
        }),
        button('Vary', () => act.vary(video), {
          image: 'dice',
          title: 'Make it with another seed, now',
        }),
        button('Remix', () => act.remix(video), {
          image: 'pen',
          title: 'Make it with a changed prompt',
        }),
        button('Compare', () => act.compare(video), {
          image: 'compare',
          title: 'Compare it with another video',
        }),
        h('span', {class: 'gap'}),
        button('MP4', () => act.save(video, 'video'), {
          image: 'download',
          'aria-label': 'MP4: download the video',
        }),
        button('JSON', () => act.save(video, 'json'), {
          image: 'download',
          'aria-label': 'JSON: download the settings',
        }),
        button('Delete', () => act.remove(video), {image: 'bin', kind: 'quiet plain'}),
      ),
      detailsOf(video),
    );
  }
}

// The facts below a video.
export function factsOf(video) {
  const {request} = video;
  const rule = request.skip
    ? TIERS[request.skip]?.name
    : request.max_evaluations
      ? `${request.max_evaluations} evaluations`
      : request.sparsity?.step_skipping
        ? 'own rule'
        : 'Exact';
  const isSparse = request.sparsity?.attn && request.sparsity.attn.is_enabled !== false;
  const loras = [request.lora ?? []].flat();
  return [
    ['Seed', request.seed],
    ['Size', video.size.replace('x', ' × ')],
    ['Length', `${request.num_frames} frames at ${request.fps ?? 24}/s`],
    ['Steps', request.num_steps],
    ['Guidance', request.cfg_schedule ? 'schedule' : request.cfg_scale],
    ['Quality', rule],
    ['Attention', isSparse ? 'sparse' : 'dense'],
    ['LoRA', loras.join(', ')],
    ['Avoid', request.negative_prompt],
    ['Made in', typeof video.inference_time_s === 'number' ? duration(video.inference_time_s) : ''],
    [
      'Memory',
      typeof video.peak_memory_mb === 'number'
        ? `${(video.peak_memory_mb / 1024).toFixed(1)} GiB`
        : '',
    ],
  ].filter(([, value]) => value !== undefined && value !== null && value !== '');
}

function detailsOf(video) {
  const facts = factsOf(video).map(([name, value]) =>
    h('div', {}, h('dt', {}, name), h('dd', {}, String(value))),
  );
  return h(
    'details',
    {class: 'details', open: innerWidth >= 740},
    h('summary', {}, 'Details'),
    h('dl', {class: 'facts'}, ...facts),
  );
}
