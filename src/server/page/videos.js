// The videos that the page knows, newest first, kept up to date with the server.
import {
  connection,
  follow,
  getJson,
  post,
  Refused,
  request,
  thumbnailUrls,
  videoUrls,
} from './api.js';

const PAGE_SIZE = 24;
const BUSY_POLL_MS = 2500;
const IDLE_POLL_MS = 10000;

export const isActive = (video) => video.status === 'queued' || video.status === 'in_progress';

// Fires 'change' when the list or a video changed, 'preview' with a detail {id, preview}, 'finish'
// with the video, and 'status' with the server's state.
class Videos extends EventTarget {
  #byId = new Map();
  #order = [];
  #changes = 0;
  #cursor = null; // the oldest video of the pages that were read
  #followed = null;
  #stop = null;
  #timer = null;
  hasOlder = false;
  isLoaded = false;

  list() {
    return this.#order.map((id) => this.#byId.get(id));
  }
  get(id) {
    return this.#byId.get(id);
  }
  active() {
    const place = (video) =>
      video.status === 'in_progress' ? -1 : (video.queue_position ?? Infinity);
    return this.list()
      .filter(isActive)
      .sort((a, b) => place(a) - place(b) || a.created_at - b.created_at);
  }

  async start() {
    await this.refresh();
    connection.addEventListener('back', () => this.refresh());
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.refresh();
    });
  }

  // Reads the newest page and the server's state. Videos that the page lacks have been deleted.
  async refresh() {
    clearTimeout(this.#timer);
    try {
      const before = this.#changes;
      const [page, status] = await Promise.all([
        getJson(`/v1/videos?limit=${PAGE_SIZE}`),
        getJson('/v1/status'),
      ]);
      if (before === this.#changes) this.#mergeNewest(page);
      else
        page.data.forEach((video) => {
          if (this.#byId.has(video.id)) this.#put(video);
        });
      await this.#readOthers(page, status);
      this.isLoaded = true;
      this.#emit('status', status);
      this.#emit('change');
    } catch (error) {
      if (error instanceof Refused) this.#emit('refused', error);
    } finally {
      clearTimeout(this.#timer);
      if (!document.hidden)
        this.#timer = setTimeout(
          () => this.refresh(),
          this.active().length ? BUSY_POLL_MS : IDLE_POLL_MS,
        );
    }
  }

  #mergeNewest(page) {
    const newest = page.data.map((video) => video.id);
    const end = page.has_more ? this.#order.indexOf(newest.at(-1)) + 1 : this.#order.length;
    const rest = this.#order.slice(end).filter((id) => !newest.includes(id));
    const gone = this.#order.slice(0, end).filter((id) => !newest.includes(id));
    gone.filter((id) => end > 0 && !isActive(this.#byId.get(id))).forEach((id) => this.#forget(id));
    const stillActive = gone.filter((id) => this.#byId.has(id));
    if (rest.length === 0 || this.#cursor === null) {
      this.hasOlder = page.has_more;
      this.#cursor = newest.at(-1) ?? null;
    }
    this.#order = [...new Set([...stillActive, ...newest, ...rest])];
    page.data.forEach((video) => this.#put(video));
  }

  // Active videos may be older than the newest page.
  async #readOthers(page, status) {
    const seen = new Set(page.data.map((video) => video.id));
    const wanted = [
      ...this.active().map((video) => video.id),
      ...status.workers.map((worker) => worker.video_id),
    ];
    await Promise.all(
      [...new Set(wanted)]
        .filter((id) => id && !seen.has(id))
        .map(async (id) => {
          try {
            this.#put(await getJson(`/v1/videos/${id}`));
            if (!this.#order.includes(id)) this.#order.push(id);
          } catch (error) {
            if (error instanceof Refused && error.status === 404) this.#forget(id);
          }
        }),
    );
  }

  async loadOlder() {
    const page = await getJson(`/v1/videos?limit=${PAGE_SIZE}&after=${this.#cursor}`);
    page.data.forEach((video) => this.#put(video));
    this.#order = [...new Set([...this.#order, ...page.data.map((video) => video.id)])];
    this.hasOlder = page.has_more;
    this.#cursor = page.data.at(-1)?.id ?? this.#cursor;
    this.#emit('change');
  }

  // Reads a video that a link names. It takes part in the list if it still exists.
  async fetch(id) {
    try {
      this.#put(await getJson(`/v1/videos/${encodeURIComponent(id)}`));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
    }
  }

  async create(body, idempotencyKey) {
    return this.#added(
      await post('/v1/videos', body, {headers: {'Idempotency-Key': idempotencyKey}}),
    );
  }

  async remix(id, changes) {
    return this.#added(await post(`/v1/videos/${id}/remix`, changes));
  }

  async remove(id) {
    try {
      await request(`/v1/videos/${id}`, {method: 'DELETE'});
    } catch (error) {
      if (!(error instanceof Refused && error.status === 404)) throw error;
    }
    this.#changes += 1;
    this.#forget(id);
    this.#emit('change');
  }

  #added(video) {
    this.#changes += 1;
    this.#put(video);
    this.#order = [...new Set([video.id, ...this.#order])];
    this.#emit('change');
    return video;
  }

  #put(video) {
    const old = this.#byId.get(video.id);
    this.#byId.set(video.id, video);
    if (old && isActive(old) && !isActive(video)) this.#emit('finish', video);
  }

  #forget(id) {
    if (this.#cursor === id) this.#cursor = this.#order[this.#order.indexOf(id) - 1] ?? null;
    this.#byId.delete(id);
    this.#order = this.#order.filter((other) => other !== id);
    videoUrls.release(id);
    thumbnailUrls.release(id);
  }

  // Follows one video's events; browsers allow few connections to a server, so only one at a time.
  watch(id) {
    if (this.#followed === id) return;
    this.#stop?.abort();
    this.#followed = id;
    if (!id) return;
    this.#stop = new AbortController();
    follow(id, (type, data) => this.#handle(id, type, data), this.#stop.signal).then(() => {
      if (this.#followed === id) this.#followed = null;
    });
  }

  // Returns true after the last event of the stream.
  #handle(id, type, data) {
    const video = this.#byId.get(id);
    if (!video || type === 'deleted') {
      this.#changes += 1;
      this.#forget(id);
      this.#emit('change');
      return true;
    }
    if (type === 'preview') {
      this.#emit('preview', {id, preview: data});
      return false;
    }
    const isEnd = type === 'state' && (data.status === 'completed' || data.status === 'failed');
    if (isEnd) {
      this.refresh();
      return true;
    }
    // A replay after a reload must not turn a newer state back.
    if (type === 'state' && data.status === 'queued' && video.status !== 'queued') return false;
    if (type === 'step') Object.assign(video, {phase: 'sampling', status: 'in_progress'});
    if (type === 'phase') Object.assign(video, {status: 'in_progress'});
    Object.assign(video, data);
    this.#emit('change');
    return false;
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, {detail}));
  }
}

export const videos = new Videos();
