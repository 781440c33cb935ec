// Every page in one colour scheme: nothing on the console, no violation of WCAG 2.2 AA, no sideways scroll
// at 360 pixels, usable by keyboard.
//
// node pages.mjs dark|light

import assert from 'node:assert/strict';

import {PAGES, axe, go, launch, noSidewaysScroll, open, picture} from './browser.mjs';
import {Daemon, until} from './daemon.mjs';

const scheme = process.argv[2];
const daemon = await Daemon.start();
const browser = await launch();
for (const path of ['/', '/exact', '/status/404', '/status/503']) await daemon.ask(path);

const page = await open(browser, daemon, {colorScheme: scheme});
for (const name of PAGES) {
  await go(page, name);
  await settle(page, name);
  await axe(page, `${name} in ${scheme}`);
  await picture(page, `${scheme}-${name.split('?')[0]}`);
}
assert.deepEqual(page.messages, []);

const small = await open(browser, daemon, {colorScheme: scheme, viewport: {width: 360, height: 740}, hasTouch: true});
for (const name of PAGES) {
  await go(small, name);
  await settle(small, name);
  await noSidewaysScroll(small, `${name} in ${scheme}`);
  await axe(small, `${name} in ${scheme} at 360 pixels`);
  await picture(small, `${scheme}-360-${name.split('?')[0]}`);
}
await small.getByRole('button', {name: 'Menu'}).click();
await small.getByRole('link', {name: 'Problems', exact: true}).click();
await small.getByRole('heading', {name: 'Problems', level: 1}).waitFor();
assert.deepEqual(small.messages, []);

if (scheme === 'dark') await keyboard(page);
// 200 % zoom of a window of 1280 pixels has 640 of them.
await page.setViewportSize({width: 640, height: 400});
for (const name of PAGES) {
  await go(page, name);
  await noSidewaysScroll(page, `${name} at 200 %`);
}
assert.deepEqual(page.messages, []);
await browser.close();
await daemon.stop();
process.exit(0);

/** What the page shows once its data are there. */
async function settle(page, name) {
  const shown = {
    overview: page.getByText('2 errors, 0 warnings'), topology: page.getByText('2 of 2 hosts'),
    routes: page.getByText('3 of 3 routes'), route: page.getByText('Served by web/cart:80'),
    endpoints: page.getByText('1 of 1 endpoint'), certificates: page.getByText('1 of 1 certificate'),
    datapath: page.getByText('host: ordinary sockets'), problems: page.getByText('2 of 2 problems'),
    requests: page.getByText('0 shown'), explain: page.getByText('Why not another rule'),
  }[name.split('?')[0]];
  await shown.first().waitFor();
}

/** Everything by keys alone. */
async function keyboard(page) {
  const heading = name => page.getByRole('heading', {name, level: 1}).waitFor();
  await go(page, 'overview');
  for (const [key, name] of [['t', 'Topology'], ['r', 'Routes'], ['e', 'Endpoints'], ['c', 'Certificates'],
    ['d', 'Datapath'], ['p', 'Problems'], ['q', 'Requests'], ['x', 'Explain'], ['o', 'Overview']]) {
    await page.locator('main').focus();
    await page.keyboard.press('g');
    await page.keyboard.press(key);
    await heading(name);
  }
  await page.keyboard.press('?');
  await page.getByRole('dialog').waitFor();
  await axe(page, 'the help');
  await page.keyboard.press('Escape');
  await until('the help to close', async () => await page.getByRole('dialog').count() === 0);

  await page.keyboard.press('g');
  await page.keyboard.press('r');
  await page.getByText('3 of 3 routes').waitFor();
  await page.keyboard.press('/');
  await page.keyboard.type('exact');
  await page.getByText('1 of 3 routes').waitFor();
  assert.equal(new URL(page.url()).hash, '#/routes?q=exact');
  // A deep link shows the same.
  await page.reload();
  await page.getByText('1 of 3 routes').waitFor();

  await page.getByRole('columnheader', {name: 'Requests'}).getByRole('button').focus();
  await page.keyboard.press('Enter');
  assert.match(page.url(), /sort=requests&order=desc/);
  assert.equal(await page.getByRole('columnheader', {name: 'Requests'}).getAttribute('aria-sort'), 'descending');
  const link = page.getByRole('link', {name: 'one.test'}).first();
  await link.focus();
  // Live updates leave the focus where it is.
  await new Promise(resolve => setTimeout(resolve, 2200));
  await page.keyboard.press('Enter');
  await page.getByText('Served by web/cart:80').waitFor();

  // The first tab stop leads past the navigation, and each stop shows where it is.
  await page.locator('.skip').focus();
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
  await page.locator('.skip').focus();
  const seen = [];
  for (let stop = 0; stop < 60; stop += 1) {
    await page.keyboard.press('Tab');
    const [name, outline] = await page.evaluate(() => {
      const active = document.activeElement;
      return active === document.body ? [null] : [active.textContent.trim(), getComputedStyle(active).outlineStyle];
    });
    // The end of the page: the browser's own controls follow.
    if (name === null) break;
    assert.equal(outline, 'solid', `the focus is visible on ${name}`);
    seen.push(name);
  }
  assert.ok(seen.includes('Explain') && seen.includes('Copy'), seen.join(' | '));

  await page.keyboard.press('g');
  await page.keyboard.press('o');
  await heading('Overview');
  const theme = page.getByRole('button', {name: /Theme/});
  for (const [name, colour] of [['light', 'rgb(245, 247, 249)'], ['dark', 'rgb(13, 19, 23)']]) {
    await theme.focus();
    await page.keyboard.press('Enter');
    assert.equal(await theme.textContent(), `Theme: ${name}`);
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), colour);
  }
}
