// Two daemons and a node that is away, in one page.

import assert from 'node:assert/strict';
import {join} from 'node:path';

import {axe, go, launch, noSidewaysScroll, open, picture} from './browser.mjs';
import {Daemon, View, until} from './daemon.mjs';

const one = await Daemon.start();
const other = await Daemon.start();
const socket = daemon => join(daemon.directory, 'run/admin.sock');
// More than a node that comes may add to a rate.
for (let number = 0; number < 50; number += 1) await one.ask('/');
const view = await View.start({'edge-1': socket(one), 'edge-2': socket(other), 'edge-3': '/nonexistent/admin.sock'});
const browser = await launch();
const page = await open(browser, view);
await overview();
await rows();
await requests();
await pages();
await leavesAndReturns();
assert.equal(await view.stop(), 0);
await page.getByText('does `kubectl sluice dashboard` still run?').waitFor();
// The browser itself tells that the server is gone.
assert.deepEqual(page.messages.filter(message => !message.includes('net::ERR_')), []);
await browser.close();
await one.stop();
await other.stop();
process.exit(0);

function row(table, text) {
  return page.getByRole('region', {name: table, exact: true}).locator('tbody tr', {hasText: text});
}

async function overview() {
  await page.getByText('2 of 3 nodes ready, 1 away').first().waitFor();
  await row('Nodes', 'edge-1').getByText('ready').waitFor();
  await row('Nodes', 'edge-2').getByText('ready').waitFor();
  await row('Nodes', 'edge-3').getByText('away').waitFor();
  await row('Nodes', 'edge-3').getByText('/nonexistent/admin.sock').waitFor();
  const value = () => page.locator('[data-value=requests]').textContent();
  await until('the requests of one node', async () => await value() === '50');
  for (const daemon of [one, other, other]) await daemon.ask('/');
  await until('the requests of both nodes', async () => await value() === '53');
}

/** Rows of both daemons, with the names of their nodes. */
async function rows() {
  await go(page, 'routes?q=one.test');
  await page.getByText('2 of 3 routes').waitFor();
  assert.equal(await page.getByRole('cell', {name: 'all', exact: true}).count(), 2);
  const fastest = Math.max(...(await page.locator('tbody tr td:nth-child(6)').allInnerTexts()).map(Number));
  assert.ok(fastest < 10, `${fastest} requests a second, although a node that came had them before`);
  await go(page, 'datapath');
  await row('Workers', 'edge-1').waitFor();
  await row('Workers', 'edge-2').waitFor();
  assert.equal(await row('Workers', 'edge-3').count(), 0);
  // Each daemon has an endpoint of its own.
  await go(page, 'endpoints');
  await page.getByText('2 of 2 endpoints').waitFor();
  for (const [name, daemon] of [['edge-1', one], ['edge-2', other]]) {
    await row('Endpoints', `127.0.0.1:${daemon.origin.address().port}`).getByRole('cell', {name, exact: true}).waitFor();
  }
  other.write('more.yaml', `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: more, namespace: web}
spec:
  rules:
  - host: more.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: cart, port: {number: 80}}}}]}
`);
  await go(page, 'routes?q=more.test');
  await row('Routes', 'more.test').getByRole('cell', {name: 'edge-2', exact: true}).waitFor();
  await go(page, 'explain?host=more.test&path=%2F');
  await page.getByRole('heading', {name: 'Answer of edge-1'}).waitFor();
  await page.getByRole('heading', {name: 'Answer of edge-2'}).waitFor();
  await page.getByText('kubectl sluice explain more.test').waitFor();
}

async function requests() {
  await go(page, 'requests');
  for (const [name, daemon] of [['edge-1', one], ['edge-2', other]]) {
    await until(`a request of ${name}`, async () => {
      await daemon.ask('/seen');
      return await row('Requests', name).count() > 0;
    });
  }
}

/** Pages of several nodes pass the checks of those of one. */
async function pages() {
  for (const name of ['overview', 'topology', 'routes', 'endpoints', 'certificates', 'datapath', 'problems', 'requests',
    'explain?host=one.test&path=%2F']) {
    await go(page, name);
    await page.getByText('2 of 3 nodes ready').first().waitFor();
    await axe(page, `${name} of several nodes`);
    await picture(page, `nodes-${name.split('?')[0]}`);
  }
  await page.setViewportSize({width: 360, height: 740});
  for (const name of ['overview', 'datapath']) {
    await go(page, name);
    await noSidewaysScroll(page, `${name} of several nodes`);
  }
  await page.setViewportSize({width: 1280, height: 800});
}

async function leavesAndReturns() {
  await go(page, 'overview');
  await other.kill();
  await page.getByText('1 of 3 nodes ready, 2 away').first().waitFor();
  await one.ask('/');
  await row('Nodes', 'edge-2').getByText('away').waitFor();
  await other.spawn();
  await page.getByText('2 of 3 nodes ready, 1 away').first().waitFor({timeout: 30_000});
}
