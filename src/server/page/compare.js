// Two videos in one frame, played in step; a divider wipes between them.
import {videoUrls} from './api.js';
import {button, h, rateOf} from './dom.js';
import {Player} from './player.js';
import {factsOf, sizeOf} from './stage.js';

const STEP = 1;
const LARGE_STEP = 10;

// Fills `element`; `onclose` is called by its button and by Escape.
export function showCompare(element, left, right, onclose) {
  const [under, over] = [right, left].map((video) =>
    h('video', {class: 'clip shown', 'aria-label': video.prompt}),
  );
  over.classList.add('over');
  const divider = h(
    'div',
    {
      class: 'divider',
      role: 'slider',
      tabIndex: 0,
      'aria-label': 'Divider',
      'aria-valuemin': '0',
      'aria-valuemax': '100',
      'aria-orientation': 'horizontal',
    },
    h('i'),
  );
  const frame = h(
    'div',
    {class: 'frame wipe'},
    under,
    over,
    divider,
    h('span', {class: 'tag a', 'aria-hidden': 'true'}, 'A'),
    h('span', {class: 'tag b', 'aria-hidden': 'true'}, 'B'),
  );
  const {width, height} = sizeOf(left);
  frame.style.setProperty('--w', width);
  frame.style.setProperty('--h', height);

  let place = 50;
  const move = (percent) => {
    place = Math.min(100, Math.max(0, percent));
    frame.style.setProperty('--split', `${place}%`);
    divider.setAttribute('aria-valuenow', Math.round(place));
    divider.setAttribute('aria-valuetext', `${Math.round(place)} % of A`);
  };
  divider.addEventListener('keydown', (event) => {
    const size = event.shiftKey ? LARGE_STEP : STEP;
    const wanted = {
      ArrowLeft: place - size,
      ArrowRight: place + size,
      ArrowDown: place - size,
      ArrowUp: place + size,
      PageDown: place - LARGE_STEP,
      PageUp: place + LARGE_STEP,
      Home: 0,
      End: 100,
    }[event.key];
    if (wanted === undefined) return;
    event.preventDefault();
    move(wanted);
  });
  const drag = (event) => {
    const box = frame.getBoundingClientRect();
    move((100 * (event.clientX - box.left)) / box.width);
  };
  frame.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    frame.setPointerCapture(event.pointerId);
    divider.focus({preventScroll: true});
    drag(event);
    frame.addEventListener('pointermove', drag);
    const release = () => frame.removeEventListener('pointermove', drag);
    frame.addEventListener('pointerup', release, {once: true});
    frame.addEventListener('pointercancel', release, {once: true});
  });
  move(50);

  const surface = h(
    'div',
    {
      class: 'surface',
      tabIndex: 0,
      role: 'group',
      'aria-label': 'Player of both: space plays, arrow keys step by one frame',
    },
    frame,
  );
  // The longer one leads; the other one waits at its end.
  const isLeftLonger = left.request.num_frames >= right.request.num_frames;
  const [longer, clips] = isLeftLonger ? [left, [over, under]] : [right, [under, over]];
  const player = new Player(clips, {
    fps: rateOf(longer.request.fps),
    numFrames: longer.request.num_frames,
    surface,
    autoplay: false,
  });
  surface.append(player.element);
  surface.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') onclose();
  });

  element.replaceChildren(
    h(
      'div',
      {class: 'label-row compare-head'},
      h('h2', {}, 'Comparison'),
      button('Close', onclose, {image: 'close'}),
    ),
    surface,
    differences(left, right),
  );
  Promise.all(
    [
      [over, left],
      [under, right],
    ].map(async ([clip, video]) => {
      clip.src = await videoUrls.get(video.id);
      await new Promise((resolve, reject) => {
        clip.oncanplay = resolve;
        clip.onerror = reject;
      });
    }),
  ).then(
    () => player.play(),
    () =>
      surface.append(
        h('p', {class: 'reason', role: 'alert'}, 'One of the videos could not be loaded.'),
      ),
  );
  divider.focus({preventScroll: true});
}

// A table of what the two have in common and where they differ.
function differences(left, right) {
  const facts = [left, right].map(
    (video) => new Map([['Prompt', video.prompt], ...factsOf(video)]),
  );
  const names = [...new Set([...facts[0].keys(), ...facts[1].keys()])];
  const rows = names.map((name) => {
    const [a, b] = facts.map((map) => String(map.get(name) ?? '–'));
    return h(
      'tr',
      {class: a === b ? 'same' : 'differs'},
      h('th', {scope: 'row'}, name),
      h('td', {}, a),
      h('td', {}, a === b ? 'same' : b),
    );
  });
  return h(
    'table',
    {class: 'differences'},
    h(
      'thead',
      {},
      h('tr', {}, h('td'), h('th', {scope: 'col'}, 'A'), h('th', {scope: 'col'}, 'B')),
    ),
    h('tbody', {}, ...rows),
  );
}
