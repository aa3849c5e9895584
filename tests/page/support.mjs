// A browser and a server, for the test of the page and the program that makes its pictures.
import {execFileSync, spawn} from 'node:child_process';
import {copyFileSync, existsSync, mkdirSync, readFileSync} from 'node:fs';
import {createServer} from 'node:net';
import path from 'node:path';
import {createInterface} from 'node:readline';
import {fileURLToPath} from 'node:url';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export function findChromium() {
  const names = ['chromium', 'chromium-browser', 'google-chrome'];
  const folders = process.env.PATH.split(':');
  return names.flatMap((name) => folders.map((folder) => path.join(folder, name))).find(existsSync);
}

// Playwright's driver, in the folder .node, which the first call fills.
async function loadDriver() {
  const folder = path.join(ROOT, '.node');
  const lock = path.join(ROOT, 'tests/page/package-lock.json');
  const installed = path.join(folder, 'package-lock.json');
  if (
    !existsSync(path.join(folder, 'node_modules')) ||
    !existsSync(installed) ||
    !readFileSync(lock).equals(readFileSync(installed))
  ) {
    mkdirSync(folder, {recursive: true});
    for (const name of ['package.json', 'package-lock.json'])
      copyFileSync(path.join(ROOT, 'tests/page', name), path.join(folder, name));
    execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--silent'], {
      cwd: folder,
      stdio: 'inherit',
    });
  }
  return import(path.join(folder, 'node_modules/playwright-core/index.mjs'));
}

// A port that is free now, so that a second server can take the place of a killed one.
export function freePort() {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const {port} = probe.address();
      probe.close(() => resolve(port));
    });
  });
}

export class Server {
  static async start(mochi, modelDir, dataDir, {port = 0, flags = []} = {}) {
    const server = new Server();
    server.process = spawn(
      mochi,
      ['serve', '--port', String(port), '--data-dir', dataDir, '--model-dir', modelDir, ...flags],
      {stdio: ['ignore', 'ignore', 'pipe']},
    );
    server.ended = new Promise((resolve) => {
      server.process.on('exit', resolve);
    });
    const said = [];
    const lines = createInterface({input: server.process.stderr});
    server.url = await new Promise((resolve, reject) => {
      lines.on('line', (line) => {
        said.push(line);
        const [, url] = /serving (http:\/\/[\d.:]+\/)/.exec(line) ?? [];
        if (url) resolve(url);
      });
      server.process.on('exit', (status) =>
        reject(new Error(`the server ended with ${status}: ${said.join('\n')}`)),
      );
    });
    return server;
  }

  async stop(signal = 'SIGTERM') {
    this.process.kill(signal);
    await this.ended;
  }

  async get(route, headers = {}) {
    return fetch(new URL(route, this.url), {headers});
  }
}

// Starts Chromium with a fresh profile.
export async function openBrowser(executablePath) {
  const {chromium} = await loadDriver();
  return chromium.launch({executablePath, args: FLAGS});
}
