// Animates the preview of a running video: a few small latent frames, drawn large and smooth.
import {calm} from './dom.js';

const FADE_MS = 350;

// Scales a tile up in steps of two, which looks softer than one large step.
function enlarge(image, x, y, width, height, scale) {
  let small = new OffscreenCanvas(width, height);
  small.getContext('2d').drawImage(image, x, y, width, height, 0, 0, width, height);
  for (let done = 1; done < scale; done *= 2) {
    const large = new OffscreenCanvas(small.width * 2, small.height * 2);
    const context = large.getContext('2d');
    context.imageSmoothingQuality = 'high';
    context.drawImage(small, 0, 0, large.width, large.height);
    small = large;
  }
  return small;
}

export class Preview {
  #frames = [];
  #older = [];
  #since = 0;
  #drawn = 0;

  // The frames of a preview are spread over the video's length, `videoMs`.
  constructor(canvas, videoMs) {
    Object.assign(this, {canvas, videoMs});
    this.context = canvas.getContext('2d');
    requestAnimationFrame((now) => this.#draw(now));
  }

  async show({image, width, height, columns, num_frames}) {
    const sheet = new Image();
    sheet.src = image;
    await sheet.decode();
    const scale = Math.max(2, Math.min(16, 2 ** Math.ceil(Math.log2(480 / width))));
    this.#older = this.#frames;
    this.#frames = Array.from({length: num_frames}, (_, i) =>
      enlarge(sheet, (i % columns) * width, Math.floor(i / columns) * height, width, height, scale),
    );
    this.#since = performance.now();
    if (this.canvas.width !== this.#frames[0].width)
      Object.assign(this.canvas, {width: this.#frames[0].width, height: this.#frames[0].height});
    this.canvas.classList.add('shown');
  }

  #draw(now) {
    if (!this.canvas.isConnected && this.#drawn > 0) return;
    this.#drawn += this.canvas.isConnected ? 1 : 0;
    requestAnimationFrame((next) => this.#draw(next));
    if (this.#frames.length === 0) return;
    const fade = Math.min(1, (now - this.#since) / FADE_MS);
    if (this.#older.length > 0 && fade < 1) this.#paint(this.#older, now, 1);
    this.#paint(this.#frames, now, this.#older.length > 0 ? fade : 1);
  }

  #paint(frames, now, alpha) {
    const place = calm()
      ? Math.floor(frames.length / 2)
      : ((now / this.videoMs) % 1) * frames.length;
    const first = Math.floor(place);
    // The last frame turns into the first at once, as the video does.
    const second = Math.min(first + 1, frames.length - 1);
    const {width, height} = this.canvas;
    this.context.globalAlpha = alpha;
    this.context.drawImage(frames[first], 0, 0, width, height);
    this.context.globalAlpha = alpha * (place - first);
    this.context.drawImage(frames[second], 0, 0, width, height);
    this.context.globalAlpha = 1;
  }
}
