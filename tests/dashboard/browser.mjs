// Chromium, with the checks that every page has to pass.

import assert from 'node:assert/strict';
import {mkdirSync, readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {join} from 'node:path';

const require = createRequire(join(process.env.SLUICE_DASHBOARD_MODULES, 'package.json'));
const {chromium} = require('playwright-core');
const AXE = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

export async function launch() {
  return chromium.launch({
    executablePath: process.env.SLUICE_CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-quic', '--disable-background-networking', '--disable-component-update'],
  });
}

/** A page with a session, whose console is written down. */
export async function open(browser, daemon, options = {}) {
  // The checks of axe are put into pages by the test: the Content-Security-Policy holds for everything else,
  // and `security` tests it.
  const context = await browser.newContext({viewport: {width: 1280, height: 800}, ...options});
  const page = await context.newPage();
  page.messages = [];
  page.on('console', message => page.messages.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', error => page.messages.push(`error: ${error.message}`));
  page.setDefaultTimeout(15_000);
  await page.goto(await daemon.url());
  await page.getByText('Live').or(page.getByText('ready, generation')).or(page.getByText(/of \d nodes ready/)).first().waitFor();
  return page;
}

/** Goes to a page by its name. */
export async function go(page, name) {
  await page.evaluate(name => { location.hash = `#/${name}`; }, name);
  await page.waitForFunction(() => document.querySelector('main h1') !== null);
}

/** No violation of WCAG 2.2 A or AA. */
export async function axe(page, what) {
  await page.evaluate(AXE);
  const result = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'],
  }));
  const violations = result.violations.map(one =>
    `${one.id}: ${one.help}\n    ${one.nodes.slice(0, 3).map(node => `${node.html}\n      ${node.failureSummary}`).join('\n    ')}`);
  assert.deepEqual(violations, [], `${what}: ${violations.join('\n')}`);
  assert.ok(result.passes.length > 5, `${what}: axe looked at something`);
}

/** The page is as wide as the window. */
export async function noSidewaysScroll(page, what) {
  const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= window, `${what}: ${wide} pixels in a window of ${window}`);
}

/** Keeps a picture for people. */
export async function picture(page, name) {
  const directory = process.env.SLUICE_DASHBOARD_PICTURES;
  if (!directory) return;
  mkdirSync(directory, {recursive: true});
  await page.screenshot({path: join(directory, `${name}.png`)});
}

export const PAGES = ['overview', 'topology', 'routes', 'route?host=one.test&path=%2F&object=web%2Fshop', 'endpoints',
  'certificates', 'datapath', 'problems', 'requests', 'explain?host=one.test&path=%2Fa'];
