// Talks to the server: requests that carry the key, errors, and streams of events.
import {saved, sleep} from './dom.js';

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 15000;
// The server sends a comment every 15 s, so a stream that is silent for longer is dead.
const SILENCE_MS = 40000;

// The server refused: `param` names the field, if one is to blame.
export class Refused extends Error {
  constructor(status, error, retryAfter) {
    super(error.message ?? `the server answered with status ${status}`);
    Object.assign(this, {status, param: error.param ?? null, code: error.code ?? null, retryAfter});
  }
}

// The server did not answer.
export class Unreachable extends Error {
  constructor() {
    super('the server does not answer');
  }
}

// Fires 'lost' and 'back'.
export const connection = new (class extends EventTarget {
  isLost = false;
  isStopping = false;

  // A server that shuts down still answers /healthz, but not /readyz.
  lose({isStopping = false} = {}) {
    if (this.isLost) return;
    Object.assign(this, {isLost: true, isStopping});
    this.dispatchEvent(new Event('lost'));
    this.#wait(isStopping ? '/readyz' : '/healthz');
  }

  restore() {
    if (!this.isLost) return;
    this.isLost = false;
    this.dispatchEvent(new Event('back'));
  }

  async #wait(path) {
    for (let delay = FIRST_DELAY_MS; this.isLost; delay = Math.min(delay * 1.6, LONGEST_DELAY_MS)) {
      await sleep(delay);
      const answer = await fetch(path, {cache: 'no-store'}).catch(() => null);
      if (answer?.ok) this.restore();
    }
  }
})();

let key = saved.get('key', 'sessionStorage') ?? saved.get('key') ?? '';
let asking = null;
let isDeclined = false;
let askForKey = async () => null;

// `ask(message)` resolves to {key, remember}, or to null if the user gives none.
export function onKeyWanted(ask) {
  askForKey = ask;
}

// Who has closed the question is not asked again by requests in the background.
export function allowAsking() {
  isDeclined = false;
}

async function newKey(message) {
  if (isDeclined) return false;
  asking ??= askForKey(message)
    .then((given) => {
      if (given) {
        key = given.key;
        saved.set('key', key, 'sessionStorage');
        if (given.remember) saved.set('key', key);
        else saved.drop('key');
      }
      isDeclined = !given;
      return Boolean(given);
    })
    .finally(() => {
      asking = null;
    });
  return asking;
}

async function refusal(response) {
  const body = await response.json().catch(() => ({}));
  return new Refused(
    response.status,
    body.error ?? {},
    Number(response.headers.get('Retry-After')) || null,
  );
}

// Answers with a successful response; throws Refused or Unreachable.
export async function request(path, {method = 'GET', json, headers = {}, signal} = {}) {
  for (;;) {
    const used = key;
    const sent = {...headers};
    if (used) sent.Authorization = `Bearer ${used}`;
    if (json !== undefined) sent['Content-Type'] = 'application/json';
    let response;
    try {
      response = await fetch(path, {
        method,
        headers: sent,
        signal,
        cache: 'no-store',
        body: json === undefined ? undefined : JSON.stringify(json),
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      connection.lose();
      throw new Unreachable();
    }
    if (response.ok) return response;
    const error = await refusal(response);
    if (error.code === 'shutting_down') connection.lose({isStopping: true});
    if (response.status !== 401) throw error;
    // Another request may have asked for a key in the meantime.
    if (used === key && !(await newKey(used ? 'The server does not know this key.' : '')))
      throw error;
  }
}

// Integers that a number cannot hold, such as long seeds, remain text.
const exact = (key, value, context) =>
  typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source)
    ? context.source
    : value;
export const parseJson = (text) => JSON.parse(text, exact);

async function body(response, kind, signal) {
  try {
    return await response[kind]();
  } catch (error) {
    if (!signal?.aborted) connection.lose();
    throw signal?.aborted ? error : new Unreachable();
  }
}

export const getJson = async (path, options = {}) =>
  parseJson(await body(await request(path, options), 'text', options.signal));
export const getBlob = async (path, options = {}) =>
  body(await request(path, options), 'blob', options.signal);
export const post = (path, json, options = {}) => getJson(path, {method: 'POST', json, ...options});
export const contentPath = (id, variant) => `/v1/videos/${id}/content?variant=${variant}`;

// Yields the events of a text/event-stream as {type, id, data}.
async function* eventsOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  let event = {type: 'message', data: []};
  try {
    for (;;) {
      const timer = setTimeout(() => reader.cancel().catch(() => {}), SILENCE_MS);
      const {value, done} = await reader.read().finally(() => clearTimeout(timer));
      if (done) return;
      const lines = (text + value).split(/\r\n|\n|\r(?!$)/);
      text = lines.pop();
      for (const line of lines) {
        if (line === '') {
          if (event.data.length > 0) yield {...event, data: JSON.parse(event.data.join('\n'))};
          event = {type: 'message', data: []};
          continue;
        }
        const [, name, content] = /^([^:]*):? ?(.*)$/s.exec(line);
        if (name === 'event') event.type = content;
        else if (name === 'id') event.id = content;
        else if (name === 'data') event.data.push(content);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Waits, but no longer than until the connection is back.
async function pause(ms, signal) {
  const ended = new AbortController();
  const end = () => ended.abort();
  signal.addEventListener('abort', end, {once: true});
  connection.addEventListener('back', end, {once: true});
  await sleep(ms, ended.signal);
  signal.removeEventListener('abort', end);
  connection.removeEventListener('back', end);
}

// Passes the events of a video to `handle(type, data)` until it returns true, and connects again
// after a loss, from the last event that was seen.
export async function follow(id, handle, signal) {
  let last = null;
  let delay = FIRST_DELAY_MS;
  while (!signal.aborted) {
    try {
      const headers = last === null ? {} : {'Last-Event-ID': last};
      const response = await request(`/v1/videos/${id}/events`, {signal, headers});
      for await (const event of eventsOf(response.body)) {
        if (signal.aborted) return;
        delay = FIRST_DELAY_MS;
        if (event.id) last = event.id;
        if (handle(event.type, event.data)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && error.status === 404) {
        handle('deleted', {});
        return;
      }
      if (error instanceof Refused && error.status < 500) return;
    }
    await pause(delay, signal);
    delay = Math.min(delay * 2, LONGEST_DELAY_MS);
  }
}

// Object URLs of thumbnails or videos. Beyond `limit`, the oldest that nothing shows are revoked.
class BlobUrls {
  #entries = new Map();

  constructor(variant, limit) {
    Object.assign(this, {variant, limit});
  }

  async get(id) {
    const entry = this.#entries.get(id) ?? {
      promise: getBlob(contentPath(id, this.variant)).then(
        (blob) => (entry.url = URL.createObjectURL(blob)),
      ),
    };
    this.#entries.delete(id);
    this.#entries.set(id, entry);
    this.#shrink();
    try {
      return await entry.promise;
    } catch (error) {
      this.#entries.delete(id);
      throw error;
    }
  }

  release(id) {
    const entry = this.#entries.get(id);
    if (entry?.url) URL.revokeObjectURL(entry.url);
    this.#entries.delete(id);
  }

  #shrink() {
    for (const [id, {url}] of this.#entries) {
      if (this.#entries.size <= this.limit) return;
      if (url && !document.querySelector(`[src="${url}"]`)) this.release(id);
    }
  }
}
export const videoUrls = new BlobUrls('video', 12);
export const thumbnailUrls = new BlobUrls('thumbnail', 200);

// Saves a file of a video. The link carries no key, so the content is fetched first.
export async function download(id, variant, name) {
  const url = URL.createObjectURL(await getBlob(contentPath(id, variant)));
  const link = document.createElement('a');
  Object.assign(link, {href: url, download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
