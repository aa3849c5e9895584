// Puts the page together: what the parts tell each other, and what the server's state means for them.
import {
  allowAsking,
  connection,
  download,
  getJson,
  onKeyWanted,
  parseJson,
  Refused,
  Unreachable,
} from './api.js';
import {showCompare} from './compare.js';
import {$, announce, button, h, toast} from './dom.js';
import {askForKey, askForPrompt, askToDelete} from './dialogs.js';
import {clearErrors, showError, showFailure} from './errors.js';
import {setUpFiles} from './files.js';
import {Form} from './form.js';
import {Gallery, Queue} from './gallery.js';
import {Stage} from './stage.js';
import {setUpTheme} from './theme.js';
import {isActive, videos} from './videos.js';

let model = null;
let form = null;
let current = null; // id of the video on the stage
let pickFrom = null; // the first video of a comparison that is being picked
let compared = null; // ids of the two videos that are compared
let pending = null; // a video that the server has not confirmed yet: {body, key}

const stage = new Stage($('stage'), {
  again: (video) => loadSettings(video.request),
  vary: ({id, prompt}) => attempt(() => videos.remix(id, {prompt, seed: 'random'}).then(added)),
  remix,
  compare: (video) => {
    pickFrom = video;
    render();
    $('gallery').scrollIntoView({block: 'nearest'});
    $('gallery').querySelector('button:enabled')?.focus();
  },
  save: (video, variant) =>
    attempt(() =>
      download(video.id, variant, `${video.id}.${variant === 'json' ? 'mp4.json' : 'mp4'}`),
    ),
  remove,
  cancel,
  tryPrompt: (prompt) => form.usePrompt(prompt),
});
const queue = new Queue({onopen: open, oncancel: cancel});
const gallery = new Gallery({onopen: pickOrOpen, onolder: () => attempt(() => videos.loadOlder())});

// Runs an action of a button and tells what went wrong.
async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
    toast(
      error instanceof Unreachable
        ? 'The server does not answer. Please try again when it is back.'
        : error.message,
      {error: true},
    );
    return null;
  }
}

function open(id) {
  current = id;
  pickFrom = compared = null;
  history.replaceState(null, '', id ? `#${id}` : location.pathname);
  render();
  if (id && $('stage').getBoundingClientRect().top < 0)
    $('stage').scrollIntoView({behavior: 'smooth'});
}

function pickOrOpen(id) {
  if (!pickFrom || !id) {
    open(id ?? current);
    return;
  }
  compared = [pickFrom.id, id];
  pickFrom = null;
  stage.leave();
  showCompare($('stage'), ...compared.map((each) => videos.get(each)), () => {
    open(compared?.[0] ?? current);
    $('stage').querySelector('.surface')?.focus();
  });
  $('stage').scrollIntoView({block: 'start'});
  render();
}

// A new video takes the stage, unless another one is being made there.
function added(video) {
  const running = videos.get(current);
  if (running && isActive(running) && !compared) toast('Queued.', {ms: 2500});
  else open(videos.active()[0]?.id ?? video.id);
  return video;
}

async function submit() {
  if (pending) return;
  clearErrors();
  const body = form.request();
  if (body.prompt.trim() === '') {
    showError({param: 'prompt', message: 'Describe what the video shows.'});
    return;
  }
  pending = {
    body,
    key: [...crypto.getRandomValues(new Uint8Array(16))]
      .map((byte) => byte.toString(16).padStart(2, '0'))
      .join(''),
  };
  await send();
}

// Sends the pending video. With its key, a repetition after a lost answer makes no second video.
async function send() {
  $('make').classList.add('busy');
  $('make').setAttribute('aria-disabled', 'true');
  try {
    added(await videos.create(pending.body, pending.key));
    pending = null;
    clearErrors();
  } catch (error) {
    const isWaiting = error instanceof Unreachable || error.code === 'shutting_down';
    if (!isWaiting) pending = null;
    showFailure(error);
    if (isWaiting)
      $('message').append(
        ' ',
        button(
          'Do not send',
          () => {
            pending = null;
            clearErrors();
            idle();
          },
          {kind: 'text-button'},
        ),
      );
  }
  if (!pending) idle();
}

function idle() {
  $('make').classList.remove('busy');
  $('make').removeAttribute('aria-disabled');
}

function loadSettings(request) {
  try {
    form.load(request);
  } catch (error) {
    toast(`These settings cannot be used: ${error.message}`, {error: true});
    return;
  }
  toast('Settings loaded.', {ms: 2500});
  if (document.activeElement === document.body || innerWidth < 740)
    $('prompt').scrollIntoView({block: 'center', behavior: 'smooth'});
}

function loadText(text, name) {
  let parsed;
  try {
    parsed = parseJson(text);
  } catch {
    toast(`${name} is not a JSON file.`, {error: true});
    return;
  }
  loadSettings(parsed);
}

async function remix(video) {
  const prompt = await askForPrompt(video.prompt);
  if (prompt) await attempt(() => videos.remix(video.id, {prompt}).then(added));
}

async function remove(video) {
  if (!(await askToDelete(video.prompt))) return;
  const next = videos.list().filter((each) => !isActive(each));
  const place = next.findIndex((each) => each.id === video.id);
  await attempt(async () => {
    await videos.remove(video.id);
    if (current === video.id) open(next[place + 1]?.id ?? next[place - 1]?.id ?? null);
    focusStage();
  });
}

async function cancel(id) {
  const video = videos.get(id);
  await attempt(async () => {
    await videos.remove(id);
    if (current === id) open(videos.active()[0]?.id ?? null);
    focusStage();
    toast('Cancelled.', {
      action: 'Settings to the form',
      onaction: () => loadSettings(video.request),
    });
  });
}

// The button that was pressed is gone with its video.
function focusStage() {
  requestAnimationFrame(() =>
    requestAnimationFrame(() => {
      if (document.activeElement === document.body)
        $('stage').querySelector('.surface, button')?.focus({preventScroll: true});
    }),
  );
}

let isRendering = false;
function render() {
  if (isRendering) return;
  isRendering = true;
  requestAnimationFrame(() => {
    isRendering = false;
    renderNow();
  });
}

function renderNow() {
  if (!model) return;
  const active = videos.active();
  const video = videos.get(current);
  $('layout').classList.toggle('has-video', Boolean(video || compared));
  queue.show(active, compared ? null : current);
  gallery.show(videos.list(), {
    current: compared ? null : current,
    hasOlder: videos.hasOlder,
    isLoaded: videos.isLoaded,
    pickFrom,
  });
  if (!compared) {
    if (video) stage.show(video);
    else if (videos.isLoaded) stage.showNothing(model);
  }
  const running =
    video && isActive(video) ? video : active.find((each) => each.status === 'in_progress');
  videos.watch(running?.id ?? null);
  document.title =
    running && running.status === 'in_progress'
      ? `${Math.round(running.progress)} % · mochi`
      : 'mochi';
}

function showStatus(status) {
  const failed = status.workers.filter((worker) => worker.state === 'failed').length;
  $('server').replaceChildren(
    h('span', {class: connection.isLost ? 'dot lost' : failed ? 'dot warn' : 'dot'}),
    h('b', {}, status.model),
    h('span', {}, status.device.replace(/^cpu$/, 'CPU')),
  );
  $('server').title = `mochi ${status.version}`;
}

function showBanner(text, ...more) {
  $('banner').replaceChildren(h('span', {}, text), ...more);
  $('banner').hidden = text === '';
}

connection.addEventListener('lost', () => {
  showBanner(
    connection.isStopping
      ? 'The server is shutting down. The page connects again by itself.'
      : 'The server does not answer. The page connects again by itself; nothing is lost.',
  );
  $('server').querySelector('.dot')?.classList.add('lost');
});
connection.addEventListener('back', () => {
  showBanner('');
  toast('Connected again.', {ms: 2500});
  if (!model) start();
  else if (pending) send();
});

onKeyWanted(async (message) => {
  const given = await askForKey(message);
  if (given) {
    showBanner('');
    return given;
  }
  const retry = () => {
    showBanner('');
    allowAsking();
    if (model) videos.refresh();
    else start();
  };
  showBanner(
    'Without a key this server shows nothing.',
    button('Enter a key', retry, {kind: 'text-button'}),
  );
  return null;
});

async function start() {
  try {
    [model] = (await getJson('/v1/models')).data;
    form ??= new Form(model, {onsubmit: submit});
    const wanted = location.hash.slice(1);
    await videos.start();
    if (wanted && !videos.get(wanted)) await videos.fetch(wanted);
    const latest =
      videos.get(wanted) ??
      videos.active()[0] ??
      videos.list().find((video) => video.status === 'completed');
    if (latest) open(latest.id);
    render();
  } catch (error) {
    model = null;
    if (error instanceof Refused && error.status !== 401) showBanner(error.message);
    else if (!(error instanceof Refused || error instanceof Unreachable)) throw error;
  }
}

videos.addEventListener('change', render);
videos.addEventListener('status', ({detail}) => showStatus(detail));
videos.addEventListener('preview', ({detail: {id, preview}}) => {
  if (id === current && !compared) stage.showPreview(preview);
});
videos.addEventListener('finish', ({detail: video}) => {
  announce(video.status === 'completed' ? 'The video is finished.' : 'The video failed.');
  form.refreshEstimate();
});
addEventListener('hashchange', () => {
  if (videos.get(location.hash.slice(1))) open(location.hash.slice(1));
});
// Before the model is known, the button must not submit the form as browsers do.
$('form').addEventListener('submit', (event) => event.preventDefault());
setUpTheme();
setUpFiles(loadText);
start();
