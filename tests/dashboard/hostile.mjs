// Names and values that try to be markup are text. Secrets are nowhere.

import assert from 'node:assert/strict';

import {PAGES, go, launch, open} from './browser.mjs';
import {Daemon, until} from './daemon.mjs';

const MARKUP = '<img src=x onerror="document.title=`owned`">';
const CANARY = 'canary-of-the-test';
const daemon = await Daemon.start([], {'hostile.yaml': `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: hostile
  namespace: web
  annotations:
    nginx.ingress.kubernetes.io/proxy-body-size: '${MARKUP.replaceAll("'", "''")}'
    nginx.ingress.kubernetes.io/permanent-redirect: 'javascript:alert(1)'
    nginx.ingress.kubernetes.io/auth-type: basic
    nginx.ingress.kubernetes.io/auth-secret: users
spec:
  tls: [{hosts: [hostile.test], secretName: certificate}]
  rules:
  - host: hostile.test
    http:
      paths:
      - {path: '/<script>document.title=1</script>', pathType: Prefix, backend: {service: {name: cart, port: {number: 80}}}}
      - {path: '/"onmouseover="x', pathType: Prefix, backend: {service: {name: cart, port: {number: 80}}}}
---
apiVersion: v1
kind: Secret
metadata: {name: users, namespace: web}
stringData: {auth: 'user:$apr1$${CANARY}'}
---
apiVersion: v1
kind: Secret
metadata: {name: certificate, namespace: web}
type: kubernetes.io/tls
stringData: {tls.crt: '${CANARY}', tls.key: '${CANARY}'}
`});
const browser = await launch();
const page = await open(browser, daemon);
const wanted = [...PAGES, 'routes?q=hostile', `route?host=hostile.test&path=${encodeURIComponent('/<script>document.title=1</script>')}`,
  `explain?host=${encodeURIComponent(MARKUP)}&path=${encodeURIComponent(MARKUP)}`, `routes?q=${encodeURIComponent(MARKUP)}`,
  `topology?host=${encodeURIComponent(MARKUP)}`];
for (const name of wanted) {
  await go(page, name);
  await until('data', () => page.evaluate(() => !document.querySelector('main').textContent.includes('Loading')));
  const found = await page.evaluate(() => ({
    scripts: document.querySelectorAll('main script, main img:not([alt=""]), iframe, object, embed').length,
    listeners: [...document.querySelectorAll('*')].flatMap(one => [...one.attributes]).filter(one => one.name.startsWith('on')).length,
    links: [...document.querySelectorAll('a')].filter(one => new URL(one.getAttribute('href'), location.href).protocol !== 'http:').length,
    title: document.title,
  }));
  assert.deepEqual({...found, title: ''}, {scripts: 0, listeners: 0, links: 0, title: ''}, name);
  assert.match(found.title, /Sluice$/, name);
  assert.ok(!(await page.content()).includes(CANARY), name);
}
await go(page, 'requests');
await page.getByText('0 shown').waitFor();
await until('the request', async () => {
  await daemon.ask('/<b>bold', 'hostile.test').catch(() => {});
  await daemon.ask('/%3Cb%3Ebold');
  return await page.getByRole('link', {name: 'bold'}).count() > 0;
});
assert.equal(await page.locator('main b').count(), 0);
await go(page, 'problems');
await page.getByText('onerror=').first().waitFor();
// Markup cannot be made even by a script of the page: Trusted Types refuse it.
const refused = await page.evaluate(() => {
  try {
    document.createElement('div').innerHTML = '<b>x</b>';
    return false;
  } catch (error) {
    return error instanceof TypeError;
  }
});
assert.ok(refused, 'innerHTML is refused');
const only = page.messages.filter(message => !/TrustedHTML|trusted/i.test(message));
assert.deepEqual(only, []);
await browser.close();
await daemon.stop();
process.exit(0);
