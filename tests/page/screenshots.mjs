// Makes the pictures of the page that the documentation shows, with real videos of the bundled model.
import {execFileSync} from 'node:child_process';
import {mkdirSync, renameSync} from 'node:fs';
import path from 'node:path';

const SCENES = [
  {
    prompt: 'a small orange ring spins and a large green cube moves left on a blue background',
    seed: 4,
  },
  {prompt: 'a large yellow star spins slowly on a purple background', seed: 2},
  {prompt: 'a small red ball bounces on a white background', seed: 3},
  {prompt: 'a large purple star grows on a grey background', seed: 4},
  {prompt: 'a large cyan ring moves in a circle on a dark background', seed: 5},
  {
    prompt: 'a large pink pyramid and a small yellow ball move right on a green background',
    seed: 6,
  },
  {prompt: 'a large blue cube spins on a white background', seed: 2},
];
const COMPARED = {prompt: 'a large green pyramid spins on a grey background', seed: 8};
const POLL_MS = 500;
const LONGEST_WAIT_MS = 300000;

async function create(server, fields) {
  const response = await fetch(new URL('/v1/videos', server.url), {
    method: 'POST',
    headers: {'Content-Type': 'application/json'},
    body: JSON.stringify(fields),
  });
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()).id;
}

async function make(server, fields) {
  const id = await create(server, fields);
  for (;;) {
    const video = await (await server.get(`/v1/videos/${id}`)).json();
    if (video.status === 'completed') return id;
    if (video.status === 'failed') throw new Error(video.error.message);
    await new Promise((resolve) => {
      setTimeout(resolve, POLL_MS);
    });
  }
}

// 256 colours take a third of the bytes, and nobody sees the difference.
function reduceColours(file) {
  const reduced = `${file}.reduced.png`;
  execFileSync('ffmpeg', [
    '-v',
    'error',
    '-y',
    '-i',
    file,
    '-vf',
    'split[a][b];[a]palettegen=stats_mode=single[p];[b][p]paletteuse=dither=sierra2_4a',
    reduced,
  ]);
  renameSync(reduced, file);
}

export async function makeScreenshots(browser, server, folder) {
  mkdirSync(folder, {recursive: true});
  const open = async (theme, width, height, scale = 1) => {
    const context = await browser.newContext({
      viewport: {width, height},
      colorScheme: theme,
      deviceScaleFactor: scale,
    });
    const page = await context.newPage();
    page.setDefaultTimeout(LONGEST_WAIT_MS);
    await page.goto(server.url);
    await page.waitForSelector('.card');
    return page;
  };
  const finish = async (page, name) => {
    await page.mouse.move(0, 0);
    await page.evaluate(() => document.activeElement.blur());
    await page.waitForTimeout(600);
    const file = path.join(folder, `server-${name}.png`);
    await page.screenshot({path: file});
    reduceColours(file);
    await page.context().close();
  };
  const stopAt = async (page, frame) => {
    await page.locator('.stage video.clip.shown').first().waitFor();
    await page.locator('.controls input').fill(String(frame));
  };
  try {
    for (const skip of ['fast', 'careful']) await make(server, {...COMPARED, skip});
    for (const scene of [...SCENES].reverse()) await make(server, {...scene, skip: 'fast'});

    let page = await open('light', 1600, 900);
    await page.fill('#prompt', 'a small pink ball moves in a circle on a dark background');
    await stopAt(page, 16);
    await finish(page, 'desktop');

    page = await open('light', 390, 844, 2);
    await stopAt(page, 16);
    await finish(page, 'phone');

    page = await open('light', 1280, 860);
    const compared = page.locator(`.card:has-text("${COMPARED.prompt}")`);
    await compared.first().locator('.open').click();
    await page.getByRole('button', {name: 'Compare'}).click();
    await compared.nth(1).locator('.open').click();
    await page.waitForFunction(() =>
      [...document.querySelectorAll('.wipe video')].every((video) => video.currentTime > 0),
    );
    await page.locator('.controls input').fill('21');
    await finish(page, 'compare');

    page = await open('dark', 1600, 900);
    await page.fill('#prompt', 'a large yellow star spins quickly on a blue background');
    await page.fill('#seed', '3');
    await page.locator('#tier_careful').click();
    await page.click('#make');
    await page.fill('#prompt', 'a small white ring falls on a purple background');
    await page.waitForTimeout(500);
    await page.click('#make');
    await page.waitForFunction(
      () => document.querySelector('.bar')?.getAttribute('aria-valuenow') > 45,
    );
    await page.fill('#prompt', 'a small pink ball moves in a circle on a dark background');
    await finish(page, 'dark');
  } finally {
    await server.stop();
  }
}
