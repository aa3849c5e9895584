// Plays one video, or two in step: buttons, a scrubber, single frames, keys.
import {calm, h, iconButton, setIcon} from './dom.js';

export class Player {
  #nextTick = 0;

  // `surface` takes the keys and, enlarged, fills the screen.
  constructor(clips, {fps, numFrames, surface, autoplay = !calm()}) {
    [this.main, this.other] = clips;
    Object.assign(this, {clips, fps, numFrames, surface});
    this.playButton = iconButton('play', 'Play', () => this.toggle());
    this.scrubber = h('input', {
      type: 'range',
      min: 0,
      max: numFrames - 1,
      step: 1,
      value: '0',
      'aria-label': 'Frame',
      oninput: () => {
        this.pause();
        this.seek(this.scrubber.valueAsNumber);
      },
    });
    this.counter = h('span', {class: 'counter'});
    this.loopButton = iconButton('loop', 'Repeat', () => this.#loop(!this.main.loop));
    this.element = h(
      'div',
      {class: 'controls'},
      iconButton('back', 'One frame back', () => this.step(-1)),
      this.playButton,
      iconButton('forward', 'One frame on', () => this.step(1)),
      this.scrubber,
      this.counter,
      this.loopButton,
      iconButton('full', 'Full screen', () => this.#fullScreen()),
    );
    for (const clip of clips)
      Object.assign(clip, {muted: true, playsInline: true, preload: 'auto'});
    for (const type of ['play', 'pause', 'ended'])
      this.main.addEventListener(type, () => this.#showState());
    for (const type of ['seeked', 'loadeddata', 'timeupdate'])
      this.main.addEventListener(type, () => this.#showPlace());
    surface.addEventListener('keydown', (event) => this.#key(event));
    this.#loop(true);
    this.#showPlace();
    if (autoplay) this.play();
  }

  get frame() {
    return Math.min(this.numFrames - 1, Math.floor(this.main.currentTime * this.fps + 0.01));
  }

  async play() {
    if (this.main.ended) this.seek(0);
    // A removed or replaced clip rejects, which is no fault.
    await Promise.all(this.clips.map((clip) => clip.play())).catch(() => {});
    this.#tick();
  }

  pause() {
    for (const clip of this.clips) clip.pause();
    this.#align(0.5 / this.fps);
  }

  toggle() {
    if (this.main.paused) this.play();
    else this.pause();
  }

  step(count) {
    this.pause();
    this.seek((this.frame + count + this.numFrames) % this.numFrames);
  }

  // The middle of a frame's time, so that rounding never shows its neighbour.
  seek(frame) {
    for (const clip of this.clips)
      clip.currentTime = Math.min((frame + 0.5) / this.fps, clip.duration || Infinity);
    this.#showPlace();
  }

  #tick() {
    cancelAnimationFrame(this.#nextTick);
    if (this.main.paused || !this.main.isConnected) return;
    this.#align(1.5 / this.fps);
    this.#showPlace();
    this.#nextTick = requestAnimationFrame(() => this.#tick());
  }

  // Brings the second clip to the first one's time if it is further away than that.
  #align(tolerance) {
    if (!this.other || !this.other.duration) return;
    const wanted = Math.min(this.main.currentTime, this.other.duration - 0.5 / this.fps);
    if (Math.abs(this.other.currentTime - wanted) > tolerance) this.other.currentTime = wanted;
    if (!this.main.paused && this.other.paused && wanted === this.main.currentTime)
      this.other.play().catch(() => {});
  }

  #loop(isOn) {
    this.main.loop = isOn;
    this.loopButton.setAttribute('aria-pressed', isOn);
  }

  #fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.surface.requestFullscreen?.();
  }

  #showState() {
    setIcon(this.playButton, this.main.paused ? 'play' : 'pause');
    this.playButton.setAttribute('aria-label', this.main.paused ? 'Play' : 'Pause');
    this.playButton.title = this.main.paused ? 'Play' : 'Pause';
  }

  #showPlace() {
    this.scrubber.value = this.frame;
    this.scrubber.setAttribute('aria-valuetext', `frame ${this.frame + 1} of ${this.numFrames}`);
    this.scrubber.style.setProperty(
      '--done',
      `${(100 * this.frame) / Math.max(1, this.numFrames - 1)}%`,
    );
    this.counter.textContent = `${this.frame + 1} / ${this.numFrames}`;
  }

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    const isButton = event.target.closest('button, a');
    if (event.key === 'ArrowLeft') this.step(-1);
    else if (event.key === 'ArrowRight') this.step(1);
    else if (event.key === ' ' && !isButton) this.toggle();
    else if (event.key === 'f' && !event.target.matches('input')) this.#fullScreen();
    else return;
    event.preventDefault();
  }
}
