// A daemon with a directory of manifests and an endpoint, both of the test.

import {execFile, spawn} from 'node:child_process';
import {mkdtempSync, openSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {mkdirSync} from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {createInterface} from 'node:readline';
import {promisify} from 'node:util';

const PATIENCE_MS = 20_000;
const run = promisify(execFile);

/** A port that nobody listens on. */
async function freePort() {
  const server = net.createServer();
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  const {port} = server.address();
  await new Promise(resolve => server.close(resolve));
  return port;
}

/** Waits until a condition holds; fails when it does not. */
export async function until(what, condition, patience = PATIENCE_MS) {
  const end = Date.now() + patience;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise(resolve => setTimeout(resolve, 20));
  }
}

export class Daemon {
  static async start(flags = [], manifests = {}) {
    const daemon = new Daemon();
    daemon.directory = mkdtempSync(join(tmpdir(), 'sluice-dashboard-'));
    daemon.manifests = join(daemon.directory, 'manifests');
    mkdirSync(daemon.manifests);
    daemon.origin = http.createServer((request, response) => {
      response.statusCode = Number(/^\/status\/(\d+)/.exec(request.url)?.[1] ?? 200);
      response.end('ok');
    });
    await new Promise(resolve => daemon.origin.listen(0, '127.0.0.1', resolve));
    daemon.port = await freePort();
    daemon.http = await freePort();
    daemon.https = await freePort();
    daemon.admin = await freePort();
    daemon.flags = flags;
    daemon.write('one.yaml', shop(daemon.origin.address().port));
    for (const [name, text] of Object.entries(manifests)) daemon.write(name, text);
    await daemon.spawn();
    return daemon;
  }

  /** Writes a manifest, which is live at once. */
  write(name, text) {
    writeFileSync(join(this.manifests, name), text);
  }

  async spawn() {
    const log = openSync(join(this.directory, 'log'), 'a');
    this.process = spawn(process.env.SLUICE_BINARY, ['run', '--datapath=host', `--manifests=${this.manifests}`,
      `--run-dir=${join(this.directory, 'run')}`, `--http-port=${this.http}`, `--https-port=${this.https}`,
      '--workers=1', `--metrics-address=127.0.0.1:${this.admin}`, `--dashboard-address=127.0.0.1:${this.port}`,
      '--access-log=off', ...this.flags], {stdio: ['ignore', log, log]});
    await until('the daemon to be ready', async () => {
      if (this.process.exitCode !== null) throw new Error(readFileSync(join(this.directory, 'log'), 'utf8'));
      return (await this.get(this.admin, '/readyz').catch(() => null)) === 200;
    });
  }

  /** Ends the process as the machine would, and waits for it. */
  async kill() {
    const ended = new Promise(resolve => this.process.once('exit', resolve));
    this.process.kill('SIGKILL');
    await ended;
  }

  async stop() {
    await this.kill();
    this.origin.close();
    this.origin.closeAllConnections();
    rmSync(this.directory, {recursive: true, force: true});
  }

  /** The status of a GET. */
  get(port, path, host = 'one.test') {
    return new Promise((resolve, reject) => {
      http.get({host: '127.0.0.1', port, path, headers: {host}, agent: false}, response => {
        response.resume();
        response.on('end', () => resolve(response.statusCode));
      }).on('error', reject);
    });
  }

  /** Sends a request through the proxy. */
  async ask(path = '/', host = 'one.test') {
    return this.get(this.http, path, host);
  }

  async sluice(...verb) {
    const {stdout} = await run(process.env.SLUICE_BINARY, [...verb, `--run-dir=${join(this.directory, 'run')}`],
      {maxBuffer: 64 << 20});
    return stdout;
  }

  /** A URL that opens the dashboard once. */
  async url() {
    return (await this.sluice('dashboard', 'url')).trim();
  }
}

/** `sluice dashboard` with the sockets of several daemons. */
export class View {
  /** @param {Record<string, string>} endpoints */
  static async start(endpoints) {
    const view = new View();
    const list = Object.entries(endpoints).map(([name, path]) => `${name}=unix:${path}`).join(',');
    view.process = spawn(process.env.SLUICE_BINARY, ['dashboard', `--endpoints=${list}`], {stdio: ['pipe', 'pipe', 'ignore']});
    view.lines = createInterface({input: view.process.stdout})[Symbol.asyncIterator]();
    view.isFresh = true;
    return view;
  }

  /** A URL that opens the dashboard once. */
  async url() {
    if (!this.isFresh) this.process.stdin.write('\n');
    this.isFresh = false;
    return (await this.lines.next()).value;
  }

  /** Ends it as Ctrl-C does, and gives its exit status. */
  async stop() {
    const ended = new Promise(resolve => this.process.once('exit', resolve));
    this.process.kill('SIGINT');
    return ended;
  }
}

function shop(port) {
  return `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: web}
spec:
  rules:
  - host: one.test
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: cart, port: {number: 80}}}}
      - {path: /exact, pathType: Exact, backend: {service: {name: cart, port: {number: 80}}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: broken, namespace: web}
spec:
  tls: [{hosts: [two.test], secretName: gone}]
  rules:
  - host: two.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: gone, port: {number: 80}}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: web}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-1, namespace: web, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
ports: [{port: ${port}}]
endpoints: [{addresses: ["127.0.0.1"]}]
`;
}

/** Many Ingresses of one rule each. */
export function many(count) {
  const all = [];
  for (let number = 0; number < count; number += 1) {
    all.push(`apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: many-${number}, namespace: team-${number % 100}}
spec:
  rules:
  - host: h${number}.many.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: cart, port: {number: 80}}}}]}
`);
  }
  return all.join('---\n');
}
