// The lists at the side: the queue of videos to come, and the gallery of those that are done.
import {thumbnailUrls, videoUrls} from './api.js';
import {$, ago, button, calm, duration, h, iconButton} from './dom.js';
import {placeOf, workOf} from './stage.js';
import {isActive} from './videos.js';

const HOVER_MS = 250;

// Plays a video in its card while the mouse rests there.
function playUnderMouse(card, picture, id) {
  if (calm() || !matchMedia('(hover: hover)').matches) return;
  let timer = null;
  card.addEventListener('mouseenter', () => {
    timer = setTimeout(async () => {
      const src = await videoUrls.get(id).catch(() => null);
      if (src && card.matches(':hover'))
        picture.append(
          h('video', {src, muted: true, loop: true, autoplay: true, playsInline: true}),
        );
    }, HOVER_MS);
  });
  card.addEventListener('mouseleave', () => {
    clearTimeout(timer);
    picture.querySelector('video')?.remove();
  });
}

// Replaces the children of a list, reusing elements with the same key, so that focus and pictures stay.
function reconcile(list, items, keyOf, create, update) {
  const old = new Map([...list.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, i) => {
    const key = keyOf(item);
    let element = old.get(key);
    old.delete(key);
    if (!element) {
      element = create(item);
      element.dataset.key = key;
    }
    update(element, item);
    if (list.children[i] !== element) list.insertBefore(element, list.children[i] ?? null);
  });
  for (const element of old.values()) element.remove();
}

export class Queue {
  constructor({onopen, oncancel}) {
    Object.assign(this, {onopen, oncancel});
  }

  show(active, current) {
    // The stage says everything about a single video that it shows.
    $('queue').hidden = active.length === 0 || (active.length === 1 && active[0].id === current);
    $('queue_title').textContent = active.length > 1 ? `Queue · ${active.length}` : 'Queue';
    reconcile(
      $('queue_list'),
      active,
      (video) => video.id,
      (video) => this.#row(video),
      (row, video) => {
        row.classList.toggle('current', video.id === current);
        row.classList.toggle('running', video.status === 'in_progress');
        const left =
          video.status === 'in_progress' && typeof video.seconds_left === 'number'
            ? ` · ${duration(video.seconds_left)} left`
            : '';
        row.querySelector('small').textContent =
          (video.status === 'queued' ? placeOf(video) : workOf(video)) + left;
        row.querySelector('.bar i').style.transform = `scaleX(${(video.progress ?? 0) / 100})`;
      },
    );
  }

  #row(video) {
    return h(
      'li',
      {class: 'job'},
      h(
        'button',
        {type: 'button', class: 'open', onclick: () => this.onopen(video.id)},
        h('b', {}, video.prompt),
        h('small'),
        h('span', {class: 'bar', 'aria-hidden': 'true'}, h('i')),
      ),
      iconButton('close', `Cancel “${video.prompt}”`, () => this.oncancel(video.id)),
    );
  }
}

export class Gallery {
  #observer = new IntersectionObserver(
    (entries) => {
      for (const {isIntersecting, target} of entries) {
        if (!isIntersecting) continue;
        this.#observer.unobserve(target);
        thumbnailUrls.get(target.dataset.video).then(
          (url) => {
            target.src = url;
          },
          () => {},
        );
      }
    },
    {rootMargin: '300px'},
  );

  constructor({onopen, onolder}) {
    this.onopen = onopen;
    $('older').addEventListener('click', async () => {
      $('older').disabled = true;
      await onolder();
      $('older').disabled = false;
    });
  }

  // `pickFrom` is the video that another one is being picked to compare with.
  show(list, {current, hasOlder, isLoaded, pickFrom}) {
    const done = list.filter((video) => !isActive(video));
    $('gallery').classList.toggle('picking', Boolean(pickFrom));
    reconcile(
      $('gallery'),
      done,
      (video) => `${video.id} ${video.status}`,
      (video) => this.#card(video),
      (card, video) => {
        card.classList.toggle('current', video.id === current);
        const open = card.querySelector('button');
        open.setAttribute('aria-current', video.id === current);
        open.disabled =
          Boolean(pickFrom) && (video.id === pickFrom.id || video.status !== 'completed');
        card.querySelector('time').textContent = ago(video.created_at);
      },
    );
    $('older').hidden = !hasOlder;
    $('gallery_empty').hidden = !isLoaded || done.length > 0;
    const key = pickFrom?.id ?? '';
    if ($('gallery_hint').dataset.key !== key) {
      $('gallery_hint').dataset.key = key;
      $('gallery_hint').replaceChildren(
        ...(pickFrom
          ? [
              h('span', {}, 'Pick the second video '),
              button('Cancel', () => this.onopen(null), {kind: 'text-button'}),
            ]
          : []),
      );
    }
  }

  #card(video) {
    const [width, height] = video.size.split('x').map(Number);
    const picture = h('img', {alt: '', width, height, 'data-video': video.id});
    if (video.status === 'completed') this.#observer.observe(picture);
    const frame = h(
      'span',
      {class: 'picture'},
      video.status === 'completed' ? picture : h('span', {class: 'tag'}, 'failed'),
      h('span', {class: 'tag length'}, `${Number(video.seconds).toFixed(1)} s`),
    );
    const card = h(
      'li',
      {class: video.status === 'failed' ? 'card failed-card' : 'card'},
      h(
        'button',
        {type: 'button', class: 'open', title: video.prompt, onclick: () => this.onopen(video.id)},
        frame,
        h('b', {}, video.prompt),
        h('time'),
      ),
    );
    if (video.status === 'completed') playUnderMouse(card, frame, video.id);
    return card;
  }
}
