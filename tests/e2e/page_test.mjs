// The page of `mochi serve` in a real Chromium, against a real server with the bundled model.
//   node page_test.mjs MOCHI MODEL_DIR [--screenshots DIR]
// With --screenshots it tests nothing, and makes the pictures of the documentation instead.
import assert from 'node:assert/strict';
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import path from 'node:path';
import {makeScreenshots} from '../page/screenshots.mjs';
import {findChromium, freePort, openBrowser, Server} from '../page/support.mjs';

const [MOCHI, MODEL_DIR, option, screenshotsDir] = process.argv.slice(2);
const KEY = 'a-key-of-the-test';
const PROMPT = 'a small red ball bounces on a white background';
const SKIPPED = 77;
const LONGEST_WAIT_MS = 60000; // other work makes the machine slow

const startServer = (dataDir, options) => Server.start(MOCHI, MODEL_DIR, dataDir, options);

// Collects everything that a page must not do.
function supervise(page, faults, isExpected) {
  page.on('pageerror', (error) => faults.push(`error: ${error.stack}`));
  page.on('console', (message) => {
    if (message.type() === 'error' && !isExpected(message.text()))
      faults.push(`console: ${message.text()}`);
  });
  page.on('request', (request) => {
    if (!/^(data|blob):/.test(request.url()) && new URL(request.url()).hostname !== '127.0.0.1')
      faults.push(`request to ${request.url()}`);
  });
}

// Mean and deviation of the brightness of what an element shows.
const brightness = (locator) =>
  locator.evaluate((shown) => {
    const canvas = Object.assign(document.createElement('canvas'), {width: 32, height: 20});
    const context = canvas.getContext('2d');
    context.drawImage(shown, 0, 0, 32, 20);
    const values = context.getImageData(0, 0, 32, 20).data.filter((_, i) => i % 4 === 1);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return {
      mean,
      deviation: Math.sqrt(
        values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length,
      ),
    };
  });

async function fillForm(
  page,
  {prompt = PROMPT, frames = 7, steps = 8, seed = '3', tier = 'off'} = {},
) {
  await page.fill('#prompt', prompt);
  await page.fill('#num_frames', String(frames));
  await page.fill('#seed', seed);
  await page.locator(`#tier_${tier}`).click();
  if (!(await page.locator('#more').evaluate((more) => more.open)))
    await page.click('#more > summary');
  await page.fill('#num_steps', String(steps));
}

const clipOf = (page) => page.locator('.stage video.clip.shown').first();

async function dropFile(page, name, text) {
  const data = await page.evaluateHandle(
    ([fileName, content]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([content], fileName, {type: 'application/json'}));
      return transfer;
    },
    [name, text],
  );
  for (const type of ['dragenter', 'dragover', 'drop'])
    await page.dispatchEvent('body', type, {dataTransfer: data});
}

const noSideScrolling = async (page, what) => {
  const wide = await page.evaluate(() => {
    const {scrollWidth, clientWidth} = document.documentElement;
    const beyond = [...document.querySelectorAll('body *')].filter(
      (element) => element.getBoundingClientRect().right > clientWidth,
    );
    return scrollWidth > clientWidth ? beyond.map((element) => element.outerHTML.slice(0, 80)) : [];
  });
  assert.deepEqual(wide, [], `${what}: wider than the window`);
};

// Each test gets the state that those before it have left.
const tests = {
  async 'makes a video and plays it'({page}) {
    await page.waitForSelector('#stage .blank');
    await fillForm(page, {steps: 16});
    await page.locator('#prompt').press('Control+Enter');
    await page.waitForSelector('#stage [role=progressbar]');
    await page.waitForSelector('canvas.preview.shown');
    assert.ok(
      (await brightness(page.locator('canvas.preview'))).deviation > 1,
      'the preview is empty',
    );
    await page.waitForFunction(
      () => document.querySelector('.stage .bar')?.getAttribute('aria-valuenow') > 30,
    );
    const clip = clipOf(page);
    await clip.waitFor();
    await page.waitForFunction((video) => video.currentTime > 0.05, await clip.elementHandle());
    const {mean, deviation} = await brightness(clip);
    assert.ok(
      mean > 60 && deviation > 3,
      `the video shows nothing: mean ${mean}, deviation ${deviation}`,
    );
    assert.equal(await page.locator('#gallery .card').count(), 1);
    await page.waitForFunction(() => document.querySelector('#gallery img').naturalWidth > 0);
  },

  async 'steps through single frames'({page}) {
    const counter = page.locator('.counter');
    await page.locator('.surface').focus();
    await page.locator('.scrubber, .controls input').fill('2');
    assert.equal(await counter.textContent(), '3 / 7');
    await page.locator('.surface').press('ArrowRight');
    assert.equal(await counter.textContent(), '4 / 7');
    await page.getByRole('button', {name: 'One frame back'}).click();
    assert.equal(await counter.textContent(), '3 / 7');
    await page.waitForFunction(
      () => Math.abs(document.querySelector('video.clip').currentTime - 2.5 / 24) < 0.005,
    );
  },

  async 'loads a JSON file that is dropped'({page, server}) {
    const {
      data: [video],
    } = await (await server.get('/v1/videos')).json();
    const sidecar = await (await server.get(`/v1/videos/${video.id}/content?variant=json`)).json();
    assert.equal(sidecar.request.prompt, PROMPT);
    sidecar.request = {
      ...sidecar.request,
      prompt: 'a large blue cube spins',
      seed: 77,
      cfg_scale: 4,
    };
    await dropFile(page, 'video.mp4.json', JSON.stringify(sidecar));
    await page.waitForFunction(
      () => document.querySelector('#prompt').value === 'a large blue cube spins',
    );
    assert.equal(await page.inputValue('#seed'), '77');
    assert.equal(await page.inputValue('#cfg_scale'), '4');
    assert.equal(await page.inputValue('#num_frames'), '7');
    assert.equal(await page.inputValue('#num_steps'), '16');
    await dropFile(page, 'notes.json', '{"no": "request"}');
    await page.waitForSelector('.toast.error');
    assert.equal(await page.inputValue('#seed'), '77', 'a useless file has changed the form');
  },

  async 'names the field that the server refuses'({page}) {
    await page.fill('#fps', 'soon');
    await page.click('#make');
    await page.waitForSelector('[data-param="fps"].wrong .error');
    assert.equal(await page.getAttribute('#fps', 'aria-invalid'), 'true');
    await page.fill('#fps', '24');
    assert.equal(await page.locator('.field.wrong').count(), 0);
  },

  async 'compares two videos'({page, server}) {
    await page.fill('#num_steps', '6');
    await page.click('#make');
    await page.waitForFunction(() => document.querySelectorAll('#gallery .card').length === 2);
    // The server has received all loaded settings.
    const {data} = await (await server.get('/v1/videos')).json();
    const changes = {prompt: 'a large blue cube spins', seed: 77, cfg_scale: 4, num_steps: 6};
    assert.deepEqual(data[0].request, {...data[1].request, ...changes});
    await clipOf(page).waitFor();
    await page.getByRole('button', {name: 'Compare'}).click();
    await page.locator('.picking .open:enabled').first().click();
    const divider = page.getByRole('slider', {name: 'Divider'});
    assert.equal(await divider.getAttribute('aria-valuenow'), '50');
    await divider.press('ArrowRight');
    await divider.press('Shift+ArrowRight');
    assert.equal(await divider.getAttribute('aria-valuenow'), '61');
    const box = await page.locator('.wipe').boundingBox();
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.25, box.y + box.height / 2, {steps: 4});
    await page.mouse.up();
    assert.equal(await divider.getAttribute('aria-valuenow'), '25');
    // Both play, and at the same time.
    await page.waitForFunction(() =>
      [...document.querySelectorAll('.wipe video')].every((video) => video.currentTime > 0.05),
    );
    await page.getByRole('button', {name: 'Pause'}).click();
    await page.waitForFunction(() => {
      const [a, b] = [...document.querySelectorAll('.wipe video')].map(
        (video) => video.currentTime,
      );
      return Math.abs(a - b) < 1 / 24;
    });
    await page.getByRole('button', {name: 'Close'}).click();
    await clipOf(page).waitFor();
  },

  async 'fits a phone'({page}) {
    await page.setViewportSize({width: 390, height: 844});
    await noSideScrolling(page, 'a finished video');
    await page.locator('.details').evaluate((details) => {
      details.open = true;
    });
    await page.check('#sparse');
    await noSideScrolling(page, 'all settings');
    await page.uncheck('#sparse');
    await page.getByRole('button', {name: 'Compare'}).click();
    await page.locator('.picking .open:enabled').first().click();
    await noSideScrolling(page, 'a comparison');
    await page.getByRole('button', {name: 'Close'}).click();
    await page.setViewportSize({width: 1280, height: 800});
  },

  async 'shows a running video again after a reload'({page}) {
    await fillForm(page, {steps: 2000, frames: 7, prompt: 'a large green star spins'});
    await page.click('#make');
    await page.waitForFunction(() =>
      /step \d+ of 2000/.test(document.querySelector('.work')?.textContent),
    );
    await page.fill('#prompt', 'typed and not sent');
    await page.reload();
    await page.waitForFunction(() =>
      /step \d+ of 2000/.test(document.querySelector('.work')?.textContent),
    );
    await page.waitForSelector('canvas.preview.shown');
    assert.equal(await page.inputValue('#prompt'), 'typed and not sent');
  },

  async 'survives the loss of the server'(state) {
    const {page, server, dataDir} = state;
    state.isServerExpected = false;
    await server.stop('SIGKILL');
    await page.waitForSelector('#banner:not([hidden])');
    await page.fill('#prompt', 'typed while it was gone');
    state.server = await startServer(dataDir, {port: new URL(server.url).port});
    await page.waitForSelector('#banner', {state: 'hidden'});
    state.isServerExpected = true;
    assert.equal(await page.inputValue('#prompt'), 'typed while it was gone');
    await page.waitForFunction(() =>
      /step \d+ of 2000/.test(document.querySelector('.work')?.textContent),
    );
  },

  async 'cancels a running video'({page, server}) {
    await page.click('#cancel');
    await page.waitForSelector('#cancel', {state: 'detached'});
    const {data} = await (await server.get('/v1/videos')).json();
    assert.deepEqual(
      data.map((video) => video.status),
      ['completed', 'completed'],
    );
    assert.equal(await page.inputValue('#prompt'), 'typed while it was gone');
  },

  async 'deletes a video after a question'({page}) {
    await page.locator('.card .open').last().click();
    await clipOf(page).waitFor();
    await page.getByRole('button', {name: 'Delete'}).click();
    await page.getByRole('button', {name: 'Keep'}).click();
    assert.equal(await page.locator('.card').count(), 2);
    await page.getByRole('button', {name: 'Delete'}).click();
    await page.locator('dialog').getByRole('button', {name: 'Delete'}).click();
    await page.waitForFunction(() => document.querySelectorAll('.card').length === 1);
  },

  async 'varies a video'({page, server}) {
    await page.getByRole('button', {name: 'Vary'}).click();
    await page.waitForFunction(() => document.querySelectorAll('.card').length === 2);
    const {data} = await (await server.get('/v1/videos')).json();
    assert.notEqual(data[0].request.seed, data[1].request.seed);
    assert.deepEqual({...data[0].request, seed: 0}, {...data[1].request, seed: 0});
    assert.equal(data[0].remixed_from_video_id, data[1].id);
  },

  async 'asks for a key, and again for the right one'(state) {
    const {dataDir, server, browser} = state;
    await state.page.close();
    await server.stop();
    // Each key has its own videos, so this one has none.
    const keys = path.join(dataDir, '..', 'keys');
    writeFileSync(keys, `${KEY}\n`);
    state.server = await startServer(dataDir, {flags: ['--api-keys', keys]});
    const page = await (await browser.newContext()).newPage();
    page.setDefaultTimeout(LONGEST_WAIT_MS);
    supervise(page, state.faults, (text) => /status of 401/.test(text));
    await page.goto(state.server.url);
    await page.fill('dialog #key', 'not-this-one');
    await page.keyboard.press('Enter');
    await page.waitForSelector('dialog .error:has-text("does not know this key")');
    await page.fill('dialog #key', KEY);
    await page.keyboard.press('Enter');
    await page.waitForSelector('#stage .blank');
    await fillForm(page);
    await page.click('#make');
    await clipOf(page).waitFor();
    await page.waitForFunction(() => document.querySelector('video.clip').currentTime > 0.02);
    await page.waitForFunction(() => document.querySelector('#gallery img')?.naturalWidth > 0);
    await page.reload();
    await clipOf(page).waitFor();
    assert.equal(await page.locator('dialog').count(), 0, 'the key was forgotten');
    await page.context().close();
  },
};

async function runTests(browser, folder) {
  const dataDir = path.join(folder, 'data');
  const state = {browser, dataDir, faults: [], isServerExpected: true};
  state.server = await startServer(dataDir, {port: await freePort()});
  let hasFailed = false;
  try {
    const context = await browser.newContext({viewport: {width: 1280, height: 800}});
    state.page = await context.newPage();
    state.page.setDefaultTimeout(LONGEST_WAIT_MS);
    // A browser itself reports answers that are errors, and servers that are gone.
    supervise(
      state.page,
      state.faults,
      (text) =>
        /status of 400/.test(text) || (!state.isServerExpected && /ERR_|Failed to load/.test(text)),
    );
    await state.page.goto(state.server.url);
    for (const [name, test] of Object.entries(tests)) {
      const start = performance.now();
      await test(state);
      assert.deepEqual(state.faults, []);
      console.log(`ok ${name} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
    }
  } catch (error) {
    hasFailed = true;
    console.error(error);
    console.error(state.faults.join('\n'));
    await state.page
      ?.screenshot({path: path.join(tmpdir(), 'mochi-page-failed.png')})
      .catch(() => {});
  } finally {
    await state.server.stop().catch(() => {});
  }
  return hasFailed ? 1 : 0;
}

const chromium = findChromium();
if (!chromium) {
  console.log('skipped: no Chromium was found in PATH');
  process.exit(SKIPPED);
}
const folder = mkdtempSync(path.join(tmpdir(), 'mochi-page-'));
const browser = await openBrowser(chromium);
try {
  if (option === '--screenshots')
    await makeScreenshots(browser, await startServer(path.join(folder, 'data')), screenshotsDir);
  else process.exitCode = await runTests(browser, folder);
} finally {
  await browser.close();
  rmSync(folder, {recursive: true, force: true});
}
