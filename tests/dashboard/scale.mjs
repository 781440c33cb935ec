// 10,000 Ingresses: the document stays small, and pages stay quick.

import assert from 'node:assert/strict';

import {axe, go, launch, open, picture} from './browser.mjs';
import {Daemon, many, until} from './daemon.mjs';

const COUNT = 10_000;
const ROUTES = COUNT + 3;
const daemon = await Daemon.start([], {'many.yaml': many(COUNT)});
const browser = await launch();
const page = await open(browser, daemon);
const shown = `${ROUTES.toLocaleString('en')} of ${ROUTES.toLocaleString('en')} routes`;
const begun = Date.now();
await go(page, 'routes');
await page.getByText(shown).waitFor();
console.log(`routes page with ${ROUTES} routes: ${Date.now() - begun} ms to the first paint`);
const rows = () => page.locator('tbody tr').count();
assert.ok(await rows() <= 60, `${await rows()} rows in the document`);

await page.evaluate(() => {
  const table = document.querySelector('.table');
  table.scrollTop = table.scrollHeight;
});
await page.getByRole('link', {name: 'two.test'}).waitFor();
assert.ok(await rows() <= 60, `${await rows()} rows at the end`);
const search = page.getByLabel('Search');
const searching = Date.now();
await search.fill('h9999.many');
await page.getByText(`1 of ${ROUTES.toLocaleString('en')} routes`).waitFor();
console.log(`search: ${Date.now() - searching} ms`);
await search.fill('');
await axe(page, '10,000 routes');
await picture(page, 'scale-routes');

for (let number = 0; number < 200; number += 1) await daemon.ask('/', `h${number}.many.test`);
await page.getByRole('columnheader', {name: 'Requests'}).getByRole('button').click();
await page.getByRole('link', {name: /^h\d+\.many/}).first().waitFor();

await go(page, 'topology');
await page.getByText(`30 of ${(COUNT + 2).toLocaleString('en')} hosts`).waitFor();
const nodes = await page.locator('.topology *').count();
assert.ok(nodes <= 1000, `${nodes} nodes in the drawing`);
const times = [];
for (let frame = 0; frame < 3; frame += 1) {
  await new Promise(resolve => setTimeout(resolve, 1000));
  times.push(Number(await page.locator('.topology').getAttribute('data-milliseconds')));
}
console.log(`topology with ${COUNT + 2} hosts: ${times.join(', ')} ms a drawing, ${nodes} nodes`);
await picture(page, 'scale-topology');
await page.getByLabel('Search').fill('h77.many');
await page.getByText('1 of 1 host').waitFor();
await page.getByRole('link', {name: /^h77/}).click();
await page.getByRole('heading', {name: 'Topology of h77.many.test'}).waitFor();
await until('one host', async () => await page.locator('.topology a').count() === 1);

await go(page, 'explain?host=h5.many.test&path=%2F');
await page.getByText('Ingress team-5/many-5').first().waitFor();
assert.deepEqual(page.messages, []);
await browser.close();
await daemon.stop();
process.exit(0);
