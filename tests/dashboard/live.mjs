// What pages show is what happens: within two seconds, over a restart, and the same as on the command line.

import assert from 'node:assert/strict';
import http from 'node:http';

import {go, launch, open} from './browser.mjs';
import {Daemon, until} from './daemon.mjs';

const daemon = await Daemon.start();
const browser = await launch();
const page = await open(browser, daemon);
await follows();
await agrees();
await streams();
await restarts();
await browser.close();
await daemon.stop();
process.exit(0);

/** Waits at most two seconds for a text. */
async function soon(what, read, expected) {
  const begun = Date.now();
  await until(what, async () => await read() === expected, 10_000);
  const took = Date.now() - begun;
  assert.ok(took <= 2000, `${what} took ${took} ms`);
  console.log(`${what}: ${took} ms`);
}

async function follows() {
  const value = () => page.locator('[data-value=requests]').textContent();
  await go(page, 'overview');
  await until('the overview', value);
  const before = Number((await value()).replaceAll(',', ''));
  await daemon.ask('/');
  await soon('a request on the overview', value, String(before + 1));

  await go(page, 'route?host=one.test&path=%2F&object=web%2Fshop');
  await until('the route', async () => await value().catch(() => null) === String(before + 1));
  await daemon.ask('/status/503');
  await soon('a request on its route', value, String(before + 2));

  await go(page, 'routes?q=one.test');
  const cell = name => async () => {
    const titles = await page.locator('th button').allTextContents();
    return page.locator('tbody tr', {hasText: '/'}).filter({hasNotText: 'exact'}).first().locator('td')
      .nth(titles.findIndex(title => title.startsWith(name))).innerText();
  };
  await until('the row', async () => await cell('Requests')().catch(() => null) === String(before + 2));
  await daemon.ask('/status/404');
  await soon('a request in the table of routes', cell('Requests'), String(before + 3));
  assert.match(await cell('5xx')(), /1$/);
  assert.match(await cell('4xx')(), /1$/);

  await go(page, 'endpoints');
  await page.getByText('1 of 1 endpoint').waitFor();
  await daemon.ask('/');
  await soon('a request in the table of endpoints',
    () => page.locator('tbody tr td').nth(5).innerText(), String(before + 4));

  await go(page, 'topology');
  const drawn = () => page.locator('.topology .link.busy').count();
  await until('load in the topology', async () => {
    await daemon.ask('/');
    return await drawn() > 0;
  });

  await go(page, 'requests');
  await page.getByText('0 shown').waitFor();
  await until('the watcher', async () => {
    await daemon.ask('/first');
    return await page.getByRole('link', {name: '/first'}).count() > 0;
  });
  await daemon.ask('/second?token=canary');
  await soon('a request in the list of requests', () => page.getByRole('link', {name: '/second'}).count().then(String), '1');
  assert.ok(!(await page.content()).includes('canary'), 'no query is shown');
  await page.getByLabel('Status').fill('5xx');
  await page.getByRole('button', {name: 'Apply'}).click();
  await page.getByText('0 shown').waitFor();
  await until('the filter', async () => {
    await daemon.ask('/status/200');
    await daemon.ask('/status/502');
    return await page.getByRole('link', {name: '/status/502'}).count() > 0;
  });
  assert.equal(await page.getByRole('link', {name: '/status/200'}).count(), 0);
  await page.getByRole('button', {name: 'Pause'}).click();
  await page.getByRole('link', {name: '/status/502'}).first().click();
  await page.getByText('Why not another rule').waitFor();

  await go(page, 'problems');
  await page.getByText('2 of 2 problems').waitFor();
  daemon.write('more.yaml', `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: more, namespace: web}
spec:
  rules:
  - host: more.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: gone, port: {number: 80}}}}]}
`);
  await soon('a new problem', () => page.getByText('3 of 3 problems').count().then(String), '1');
  await go(page, 'routes');
  await page.getByText('4 of 4 routes').waitFor();
}

/** Pages, the API and the command line give the same. */
async function agrees() {
  const api = path => page.evaluate(async path => (await fetch(`/api/v1/${path}`)).json(), path);
  for (const verb of ['routes', 'endpoints', 'certificates']) {
    const listed = await daemon.sluice(verb, '-o', 'json').catch(error => error.stdout);
    assert.deepEqual(await api(verb), JSON.parse(listed), verb);
  }
  for (const [host, path] of [['one.test', '/a'], ['one.test', '/exact'], ['two.test', '/'], ['nobody.test', '/x?a=1']]) {
    const told = await daemon.sluice('explain', host, path, '-o', 'json').catch(error => error.stdout);
    assert.deepEqual(await api(`explain?${new URLSearchParams({host, path})}`), JSON.parse(told), `${host}${path}`);
  }
  await go(page, 'explain?host=nobody.test&path=%2Fx');
  await page.getByText('none matches: the answer is 404').waitFor();
  assert.equal(await daemon.ask('/x', 'nobody.test'), 404);
  await page.getByLabel('Host or URL').fill('https://one.test/exact?x=1');
  await page.getByRole('button', {name: 'Explain', exact: true}).click();
  await page.getByText('one.test/exact of Ingress web/shop').waitFor();
  assert.deepEqual(page.messages, []);
}

/** Sixteen streams are open at most, and the page that asks for the next one says why it is not live. */
async function streams() {
  const cookie = (await page.context().cookies()).map(({name, value}) => `${name}=${value}`).join('; ');
  const open = [];
  const stream = () => new Promise((resolve, reject) => {
    const request = http.get({host: '127.0.0.1', port: daemon.port, path: '/api/v1/stream?topics=', agent: false,
      headers: {host: 'localhost', cookie}}, response => {
      open.push(request);
      if (response.statusCode === 200) response.once('data', () => resolve(200)).resume();
      else resolve(response.statusCode);
    });
    request.on('error', reject);
  });
  await page.goto('about:blank');
  await until('the stream of the page to end', async () => {
    for (const one of open.splice(0)) one.destroy();
    for (let number = 0; number < 16; number += 1) if (await stream() !== 200) return false;
    return true;
  });
  assert.equal(await stream(), 503, 'a seventeenth stream');
  await page.goto(`http://127.0.0.1:${daemon.port}/`);
  await page.getByText('Not live: 16 pages already watch this daemon').waitFor();
  for (const one of open) one.destroy();
  await page.getByText('ready, generation').waitFor();
}

async function restarts() {
  await go(page, 'overview');
  await page.locator('[data-value=requests]').waitFor();
  await daemon.kill();
  await page.getByText('Reconnecting').waitFor();
  await daemon.spawn();
  await page.getByText('The daemon has restarted and has forgotten its sessions.').waitFor();
  await page.getByText('sluice dashboard url', {exact: true}).waitFor();
  // Another tab of the same browser opens the new URL: this one goes on by itself.
  const other = await page.context().newPage();
  await other.goto(await daemon.url());
  await other.getByText('ready, generation').waitFor();
  await other.close();
  await page.getByText('The daemon has restarted; this page shows the new one.').waitFor();
  await page.getByText('ready, generation').waitFor();
}
