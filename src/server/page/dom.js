// Small helpers: elements, texts of numbers, dialogs, notices, values that survive a reload.

export const $ = (id) => document.getElementById(id);

// Creates an element: h('button', {class: 'quiet', onclick: f}, 'Text', child …).
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== 'string') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(
    ...children.filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}

export function setIcon(button, name) {
  button.querySelector('use').setAttribute('href', `#i-${name}`);
}

export const iconButton = (name, label, onclick, more = {}) =>
  h(
    'button',
    {type: 'button', class: 'icon-button', 'aria-label': label, title: label, onclick, ...more},
    icon(name),
  );

export const button = (text, onclick, {kind = 'quiet', image, ...more} = {}) =>
  h(
    'button',
    {type: 'button', class: kind, onclick, ...more},
    image ? icon(image) : null,
    h('span', {}, text),
  );

// "24000/1001" and 24 are frame rates.
export function rateOf(value, otherwise = 24) {
  const [above, below = '1'] = String(value ?? '').split('/');
  const rate = Number(above) / Number(below);
  return rate > 0 && Number.isFinite(rate) ? rate : otherwise;
}

export function duration(seconds) {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 100) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const relative = new Intl.RelativeTimeFormat('en', {numeric: 'auto', style: 'short'});
export function ago(unixSeconds) {
  const seconds = Math.max(0, Date.now() / 1000 - unixSeconds);
  if (seconds < 60) return 'just now';
  if (seconds < 3600) return relative.format(-Math.floor(seconds / 60), 'minute');
  if (seconds < 86400) return relative.format(-Math.floor(seconds / 3600), 'hour');
  return relative.format(-Math.floor(seconds / 86400), 'day');
}

export const calm = () => matchMedia('(prefers-reduced-motion: reduce)').matches;
export const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];
export const sleep = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener(
      'abort',
      () => {
        clearTimeout(timer);
        resolve();
      },
      {once: true},
    );
  });

export function debounce(ms, action) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, ms);
  };
}

// Values under `mochi.NAME`; storage that is full or forbidden only forgets them.
function guarded(action) {
  try {
    return action();
  } catch {
    return null;
  }
}
export const saved = {
  get: (name, storage = 'localStorage') =>
    guarded(() => JSON.parse(window[storage].getItem(`mochi.${name}`))),
  set: (name, value, storage = 'localStorage') =>
    guarded(() => window[storage].setItem(`mochi.${name}`, JSON.stringify(value))),
  drop: (name, storage = 'localStorage') =>
    guarded(() => window[storage].removeItem(`mochi.${name}`)),
};

// A short notice at the lower edge, with one action if wanted.
export function toast(text, {action, onaction, error = false, ms = 6000} = {}) {
  const note = h('div', {class: error ? 'toast error' : 'toast'}, h('span', {}, text));
  if (action)
    note.append(
      button(
        action,
        () => {
          note.remove();
          onaction();
        },
        {kind: 'text-button'},
      ),
    );
  note.append(iconButton('close', 'Dismiss', () => note.remove()));
  $('toasts').append(note);
  setTimeout(() => {
    if (!note.matches(':focus-within')) note.remove();
  }, ms);
}

// Tells screen readers, and nobody else.
export function announce(text) {
  $('live').textContent = text;
}
