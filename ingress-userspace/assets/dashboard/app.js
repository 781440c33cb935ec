// The frame of all pages: navigation, keyboard, theme, state of the connection, login.

import {Refused, get, logIn} from './api.js';
import {badge, h, replace, setText} from './dom.js';
import {live} from './live.js';
import {nodesText} from './nodes.js';
import {certificates} from './page_certificates.js';
import {datapath} from './page_datapath.js';
import {endpoints} from './page_endpoints.js';
import {explain} from './page_explain.js';
import {overview} from './page_overview.js';
import {problems} from './page_problems.js';
import {requests} from './page_requests.js';
import {route} from './page_route.js';
import {routes} from './page_routes.js';
import {topology} from './page_topology.js';

/** @typedef {import('./types.js').Page} Page */

/** @type {{name: string, title: string, key: string, make: (query: URLSearchParams) => Page}[]} */
const PAGES = [
  {name: 'overview', title: 'Overview', key: 'o', make: overview},
  {name: 'topology', title: 'Topology', key: 't', make: topology},
  {name: 'routes', title: 'Routes', key: 'r', make: routes},
  {name: 'endpoints', title: 'Endpoints', key: 'e', make: endpoints},
  {name: 'certificates', title: 'Certificates', key: 'c', make: certificates},
  {name: 'datapath', title: 'Datapath', key: 'd', make: datapath},
  {name: 'problems', title: 'Problems', key: 'p', make: problems},
  {name: 'requests', title: 'Requests', key: 'q', make: requests},
  {name: 'explain', title: 'Explain', key: 'x', make: explain},
];
/** Pages that others lead to. */
const FURTHER = [{name: 'route', title: 'Route', key: '', make: route}];

const root = /** @type {HTMLElement} */ (document.getElementById('app'));
const main = h('main', {id: 'main', tabindex: '-1'});
const connection = h('p', {class: 'connection', role: 'status'});
const notice = h('div', {class: 'notice', role: 'alert'});
/** @type {Map<string, HTMLAnchorElement>} */
const links = new Map();
/** @type {Page | null} */
let page = null;
/** The timer of the login page. */
let waiting = 0;

function frame() {
  const items = PAGES.map(({name, title, key}) => {
    const link = h('a', {href: `#/${name}`, title: `g ${key}`}, title);
    links.set(name, link);
    return h('li', {}, link);
  });
  const nav = h('nav', {'aria-label': 'Pages', id: 'nav'}, h('ul', {}, ...items));
  const menu = h('button', {class: 'menu', type: 'button', 'aria-expanded': 'false', 'aria-controls': 'nav',
    onclick: () => {
      const isOpen = document.body.classList.toggle('nav-open');
      menu.setAttribute('aria-expanded', String(isOpen));
    }}, 'Menu');
  nav.addEventListener('click', () => {
    document.body.classList.remove('nav-open');
    menu.setAttribute('aria-expanded', 'false');
  });
  const theme = h('button', {type: 'button', class: 'theme', onclick: () => switchTheme(theme)});
  nameTheme(theme);
  const help = h('button', {type: 'button', 'aria-label': 'Keyboard help', onclick: showHelp}, '?');
  replace(root,
    h('a', {class: 'skip', href: '#main', onclick: event => { event.preventDefault(); main.focus(); }}, 'Skip to content'),
    h('header', {}, h('a', {class: 'brand', href: '#/overview'}, h('img', {src: `${asset('icon.svg')}`, alt: '', width: '24', height: '24'}), 'Sluice'),
      connection, h('div', {class: 'tools'}, theme, help, menu)),
    nav, h('div', {class: 'content'}, notice, main));
}

/** @param {string} name */
function asset(name) {
  return new URL(name, import.meta.url).pathname;
}

function show() {
  const hash = location.hash.startsWith('#/') ? location.hash.slice(2) : 'overview';
  const [name, query] = hash.split('?');
  const found = [...PAGES, ...FURTHER].find(page => page.name === name) ?? PAGES[0];
  page?.close?.();
  replace(notice);
  page = found.make(new URLSearchParams(query ?? ''));
  document.title = `${page.title} · Sluice`;
  for (const [name, link] of links) {
    const isHere = name === found.name || (name === 'routes' && found.name === 'route');
    if (isHere) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  replace(main, h('h1', {}, page.title), page.element);
  live.follow(page.topics, page.filter);
  page.update(new Set(['sample', 'status', 'traffic', 'requests']));
  main.focus({preventScroll: true});
  window.scrollTo(0, 0);
}

/** @param {Set<string>} changed */
function update(changed) {
  const sample = live.samples.at(-1);
  const words = /** @type {const} */ ({
    connecting: ['muted', 'Connecting'], live: ['ok', 'Live'], stalled: ['warn', 'Control is busy'],
    lost: ['bad', 'Reconnecting'], refused: ['bad', 'Not live'], ended: ['bad', 'Logged out'],
  })[live.state];
  const state = sample?.state ?? '';
  const text = live.state === 'live' && sample
    ? nodesText() ?? `${state}, generation ${sample.generation}` : `${words[1]}${live.reason ? `: ${live.reason}` : ''}`;
  if (connection.textContent !== text) {
    const tone = live.state === 'live' && state !== '' && state !== 'ready' ? 'warn' : words[0];
    replace(connection, badge(tone, text));
  }
  page?.update(changed);
}

/** @param {string} text @param {'ok' | 'bad'} tone */
function tell(text, tone) {
  replace(notice, h('p', {}, badge(tone, text),
    h('button', {type: 'button', class: 'close', 'aria-label': 'Dismiss', onclick: () => replace(notice)}, '×')));
}

/** Shows how to log in, and goes on by itself once a session is there. @param {string} auth @param {string} reason */
function logInPage(auth, reason) {
  live.close();
  page?.close?.();
  page = null;
  document.title = 'Log in · Sluice';
  const problem = h('p', {role: 'alert', class: 'error'}, reason);
  const begin = (/** @type {import('./types.js').Session} */ session) => {
    clearInterval(waiting);
    live.isOfNodes = session.is_of_nodes;
    frame();
    show();
  };
  clearInterval(waiting);
  waiting = setInterval(() => get('session').then(begin, () => {}), 3000);
  const token = h('input', {type: 'password', id: 'token', autocomplete: 'off', required: true});
  const form = h('form', {onsubmit: event => {
    event.preventDefault();
    logIn(token.value).then(() => get('session')).then(begin, error => setText(problem, error.message));
  }}, h('label', {for: 'token'}, 'Token of the Kubernetes API'), token, h('button', {type: 'submit', class: 'primary'}, 'Log in'),
  h('p', {class: 'hint'}, 'Its user may get the non-resource URL /sluice/dashboard. For instance: '),
  h('code', {}, 'kubectl create token NAME --duration=10m'));
  const advice = h('div', {},
    h('p', {}, 'Run this on the node, as root, and open the URL that it prints in this browser. It is valid for one login within a minute.'),
    h('p', {}, h('code', {}, 'sluice dashboard url')),
    h('p', {class: 'hint'}, 'Through a forwarded port, in a pod:'),
    h('p', {}, h('code', {}, 'kubectl -n sluice-system exec POD -- sluice dashboard url --port 10256')),
    h('p', {class: 'hint'}, 'This page goes on by itself once the session is open.'));
  const again = h('div', {},
    h('p', {}, 'Press Enter where this command runs, or run it again, and open the URL that it prints in this browser. It is valid for one login within a minute.'),
    h('p', {}, h('code', {}, 'kubectl sluice dashboard')),
    h('p', {class: 'hint'}, 'This page goes on by itself once the session is open.'));
  replace(root, h('main', {class: 'login', id: 'main'},
    h('img', {src: asset('icon.svg'), alt: '', width: '48', height: '48'}), h('h1', {}, 'Sluice'), problem,
    auth === 'kubernetes' ? form : auth === 'nodes' ? again : advice));
}

/** @param {HTMLElement} button */
function switchTheme(button) {
  const order = ['auto', 'light', 'dark'];
  const next = order[(order.indexOf(theme()) + 1) % order.length];
  localStorage.setItem('theme', next);
  applyTheme();
  nameTheme(button);
}

function theme() {
  return localStorage.getItem('theme') ?? 'auto';
}

function applyTheme() {
  document.documentElement.dataset.theme = theme();
}

/** @param {HTMLElement} button */
function nameTheme(button) {
  setText(button, {auto: 'Theme: auto', light: 'Theme: light', dark: 'Theme: dark'}[theme()] ?? 'Theme: auto');
}

function showHelp() {
  const keys = [['/', 'Search on this page'], ['?', 'This help'], ...PAGES.map(page => [`g ${page.key}`, page.title])];
  const dialog = h('dialog', {'aria-labelledby': 'help-title'}, h('h2', {id: 'help-title'}, 'Keyboard'),
    h('dl', {class: 'keys'}, ...keys.map(([key, text]) => h('div', {}, h('dt', {}, h('kbd', {}, key)), h('dd', {}, text)))),
    h('form', {method: 'dialog'}, h('button', {class: 'primary'}, 'Close')));
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

let isGoing = false;

/** @param {KeyboardEvent} event */
function onKey(event) {
  const target = event.target;
  const isTyping = target instanceof HTMLElement && target.matches('input, select, textarea');
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping || document.querySelector('dialog[open]')) return;
  if (isGoing) {
    isGoing = false;
    const found = PAGES.find(page => page.key === event.key);
    if (found) location.hash = `#/${found.name}`;
    return;
  }
  if (event.key === 'g') isGoing = true;
  else if (event.key === '?') showHelp();
  else if (event.key === '/') {
    const search = main.querySelector('input[type=search]');
    if (search instanceof HTMLInputElement) {
      event.preventDefault();
      search.focus();
    }
  }
}

async function start() {
  applyTheme();
  clearInterval(waiting);
  const token = /^#t=(.+)$/.exec(location.hash)?.[1];
  let reason = '';
  if (token !== undefined) {
    // The token is worth nothing once it was used, and need not stay in the history.
    history.replaceState(null, '', '/');
    await logIn(token).catch(error => { reason = error.message; });
  }
  try {
    const session = await get('session');
    live.isOfNodes = session.is_of_nodes;
  } catch (error) {
    const auth = error instanceof Refused ? error.body.auth : 'token';
    logInPage(auth, reason);
    return;
  }
  frame();
  show();
}

live.onChange = update;
live.onEnd = () => {
  const reason = live.reason;
  get('session').then(() => live.open(), error => logInPage(error.body?.auth ?? 'token', reason));
};
live.onRestart = () => tell(live.isOfNodes ? 'The dashboard was started again; this page shows the new one.'
  : 'The daemon has restarted; this page shows the new one.', 'ok');
addEventListener('hashchange', () => {
  if (/^#t=/.test(location.hash)) void start();
  else if (page !== null && location.hash.startsWith('#/')) show();
});
addEventListener('keydown', onKey);
document.addEventListener('visibilitychange', () => {
  // A browser opens six connections to a host at most: pages out of sight leave theirs to others.
  if (document.hidden) live.close();
  else if (page !== null) live.open();
});
void start();
