// Clients → devices → listeners → workers → hosts → backends → endpoints. Width is the rate, a dashed red
// line has errors. Hosts beyond the busiest thirty are one node.

import {h, replace, setText, svg} from './dom.js';
import {remember, textField} from './filter.js';
import {plural, rate} from './format.js';
import {live} from './live.js';
import {Resource} from './resource.js';

/** @typedef {import('./types.js').Route} Route */
/** @typedef {{id: string, column: number, text: string, hint: string, rate: number, errors: number, tone: string, href?: string, y: number}} Box */
/** @typedef {{from: string, to: string, rate: number, errors: number}} Link */

const HOSTS_MAX = 30;
const BACKENDS_MAX = 40;
const ENDPOINTS_MAX = 40;
const TITLES = ['Clients', 'Devices', 'Listeners', 'Workers', 'Hosts', 'Backends', 'Endpoints'];
const LEFT = [0, 120, 270, 400, 520, 760, 990];
const WIDTH = [90, 120, 100, 90, 200, 190, 150];
const ROW = 34;
const BOX = 26;

/** @param {URLSearchParams} query @returns {import('./types.js').Page} */
export function topology(query) {
  /** @type {Resource<Route[]>} */
  const routes = new Resource('routes', [], index);
  /** @type {Resource<import('./types.js').Endpoint[]>} */
  const endpoints = new Resource('endpoints', [], index);
  /** @type {Map<string, Set<string>>} */
  let backendsOf = new Map();
  /** @type {Map<string, import('./types.js').Endpoint[]>} */
  let endpointsOf = new Map();
  /** @type {Map<string, {at: number, netns: number, host: number}>} */
  const before = new Map();
  /** @type {Map<string, {netns: number, host: number}>} */
  const workerRates = new Map();
  const drawing = svg('svg', {class: 'topology', role: 'group', 'aria-label': 'Topology'});
  const shown = h('p', {class: 'count', role: 'status'});
  const back = h('a', {href: '#/topology', class: 'button'}, 'All hosts');
  const element = h('div', {class: 'fill'}, h('div', {class: 'filters'},
    textField('Search', 'q', query, () => { remember('topology', query); draw(); }, {search: true, placeholder: 'host', wide: true}),
    query.has('host') ? back : null), shown,
  h('div', {class: 'drawing', tabindex: '0', role: 'region', 'aria-label': 'Topology, scrolls'}, drawing));

  function index() {
    backendsOf = new Map();
    for (const route of routes.value) {
      const known = backendsOf.get(route.host) ?? new Set();
      if (route.target.kind === 'backends') for (const share of route.target.backends) known.add(share.backend);
      backendsOf.set(route.host, known);
    }
    endpointsOf = Map.groupBy(endpoints.value, endpoint => endpoint.backend);
    draw();
  }

  /** The hosts to show, the busiest first, and how many are left out. */
  function chosen() {
    const only = query.get('host');
    const text = (query.get('q') ?? '').toLowerCase();
    const all = [...backendsOf.keys()].filter(host => only === null ? text === '' || host.toLowerCase().includes(text) : host === only);
    const busy = all.map(host => ({host, now: live.rate('hosts', host === '*' ? '' : host)}));
    busy.sort((a, b) => b.now.requests - a.now.requests || (a.host < b.host ? -1 : 1));
    return {hosts: busy.slice(0, HOSTS_MAX), others: busy.slice(HOSTS_MAX), all: all.length};
  }

  function draw() {
    const begun = performance.now();
    const {hosts, others, all} = chosen();
    /** @type {Box[]} */
    const boxes = [];
    /** @type {Link[]} */
    const links = [];
    /** @param {string} id @param {number} column @param {string} text @param {Partial<Box>} [more] */
    const box = (id, column, text, more = {}) => {
      if (!boxes.some(one => one.id === id)) boxes.push({id, column, text, hint: text, rate: 0, errors: 0, tone: 'plain', y: 0, ...more});
    };
    entrance(box, links);
    const backends = new Map();
    for (const {host, now} of hosts) {
      const served = [...backendsOf.get(host) ?? []];
      box(`host ${host}`, 4, host, {rate: now.requests, errors: now.serverErrors, href: `#/topology?${new URLSearchParams({host})}`,
        hint: `${host}: ${rate(now.requests)} requests a second, ${rate(now.serverErrors)} with 5xx`, tone: now.serverErrors > 0 ? 'bad' : 'plain'});
      for (const backend of served) backends.set(backend, [...backends.get(backend) ?? [], {host, now, share: served.length}]);
    }
    if (others.length > 0) {
      const sum = others.reduce((sum, one) => sum + one.now.requests, 0);
      box('host …', 4, `${plural(others.length, 'other host')}`, {rate: sum, tone: 'muted'});
    }
    for (const [backend, from] of [...backends].slice(0, BACKENDS_MAX)) {
      const now = live.rate('backends', backend);
      const own = endpointsOf.get(backend) ?? [];
      box(`backend ${backend}`, 5, backend, {rate: now.requests, errors: now.serverErrors, tone: own.length === 0 || now.serverErrors > 0 ? 'bad' : 'plain',
        hint: `${backend}: ${rate(now.requests)} requests a second, ${plural(own.length, 'endpoint')}`});
      for (const {host, now: ofHost, share} of from) {
        links.push({from: `host ${host}`, to: `backend ${backend}`, rate: Math.min(ofHost.requests / share, now.requests), errors: ofHost.serverErrors});
      }
      const room = query.has('host') ? ENDPOINTS_MAX : 2;
      for (const one of own.slice(0, room)) {
        box(`endpoint ${one.address}`, 6, one.address, {tone: one.state === 'ready' ? 'plain' : 'warn', hint: `${one.address}: ${one.state}, ${one.path}`});
        links.push({from: `backend ${backend}`, to: `endpoint ${one.address}`, rate: now.requests / own.length, errors: 0});
      }
      if (own.length > room) {
        box(`more ${backend}`, 6, `${own.length - room} more`, {tone: 'muted'});
        links.push({from: `backend ${backend}`, to: `more ${backend}`, rate: now.requests * (own.length - room) / own.length, errors: 0});
      }
    }
    for (const worker of boxes.filter(one => one.column === 3)) {
      for (const {host, now} of hosts.slice(0, HOSTS_MAX)) {
        links.push({from: worker.id, to: `host ${host}`, rate: now.requests / Math.max(1, boxes.filter(one => one.column === 3).length), errors: now.serverErrors});
      }
    }
    paint(boxes, links);
    setText(shown, routes.isLoaded ? all === 0 ? 'No host matches.' : `${Math.min(hosts.length, all)} of ${plural(all, 'host')}, the busiest first` : routes.reason(''));
    drawing.dataset.milliseconds = (performance.now() - begun).toFixed(1);
  }

  /**
   * Clients to workers.
   * @param {(id: string, column: number, text: string, more?: Partial<Box>) => void} box
   * @param {Link[]} links
   */
  function entrance(box, links) {
    const workers = live.status.workers ?? [];
    const path = live.status.datapath;
    const sum = {netns: 0, host: 0};
    for (const {netns, host} of workerRates.values()) {
      sum.netns += netns;
      sum.host += host;
    }
    box('clients', 0, 'Clients', {rate: sum.netns + sum.host, hint: `${rate(sum.netns + sum.host)} requests a second`});
    const uplinks = (path?.devices ?? []).filter(device => device.role === 'uplink');
    /** @type {('netns' | 'host')[]} */
    const ways = path?.mode === 'netns' ? ['netns', 'host'] : ['host'];
    for (const way of ways) box(`way ${way}`, 2, way, {rate: sum[way], hint: way === 'netns' ? 'Listeners in the ingress netns' : 'Listeners in the host’s netns'});
    if (uplinks.length === 0) {
      box('device', 1, 'Host stack', {hint: 'No device has a program: packets come through the host’s stack'});
      links.push({from: 'clients', to: 'device', rate: sum.host, errors: 0}, {from: 'device', to: 'way host', rate: sum.host, errors: 0});
    }
    for (const device of uplinks) {
      const id = `device ${device.node ?? ''} ${device.name}`;
      box(id, 1, `${device.name} ${device.guard}`, {hint: `${device.node ? `${device.node}, ` : ''}${device.name}: XDP ${device.guard}, TC ${device.steer ?? 'not attached'}`, tone: device.datapath === 'netns' ? 'plain' : 'warn'});
      links.push({from: 'clients', to: id, rate: (sum.netns + sum.host) / uplinks.length, errors: 0});
      for (const way of ways) links.push({from: id, to: `way ${way}`, rate: sum[way] / uplinks.length, errors: 0});
    }
    for (const worker of workers) {
      const rates = workerRates.get(workerName(worker)) ?? {netns: 0, host: 0};
      box(workerName(worker), 3, workerName(worker), {rate: rates.netns + rates.host, tone: worker.is_running ? 'plain' : 'bad'});
      for (const way of ways) links.push({from: `way ${way}`, to: workerName(worker), rate: rates[way], errors: 0});
    }
  }

  /** @param {Box[]} boxes @param {Link[]} links */
  function paint(boxes, links) {
    const counts = TITLES.map((_, column) => boxes.filter(one => one.column === column).length);
    const height = Math.max(...counts, 4) * ROW + 40;
    const places = new Map();
    const next = counts.map(count => 34 + Math.min(170, (height - 40 - count * ROW) / 2));
    for (const one of boxes) {
      one.y = next[one.column];
      next[one.column] += ROW;
      places.set(one.id, one);
    }
    const lines = links.flatMap(link => {
      const [from, to] = [places.get(link.from), places.get(link.to)];
      if (!from || !to) return [];
      const [x1, x2] = [LEFT[from.column] + WIDTH[from.column], LEFT[to.column]];
      const [y1, y2] = [from.y + BOX / 2, to.y + BOX / 2];
      const middle = (x1 + x2) / 2;
      const name = `link${link.rate > 0 ? ' busy' : ''}${link.errors > 0 ? ' failing' : ''}`;
      return [svg('path', {class: name, d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`,
        'stroke-width': (1 + Math.min(9, Math.log2(1 + link.rate))).toFixed(1)})];
    });
    const nodes = boxes.map(one => {
      const room = Math.floor(WIDTH[one.column] / 7.4) - (one.rate > 0 ? 5 : 0);
      const text = one.text.length > room ? `${one.text.slice(0, room - 1)}…` : one.text;
      const group = svg('g', {class: `node ${one.tone}`, transform: `translate(${LEFT[one.column]} ${one.y})`}, svg('title', {}, one.hint),
        svg('rect', {width: WIDTH[one.column], height: BOX, rx: 6}), svg('text', {x: 8, y: 17}, (one.tone === 'bad' ? '✕ ' : '') + text),
        one.rate > 0 ? svg('text', {x: WIDTH[one.column] - 6, y: 17, class: 'rate'}, rate(one.rate)) : null);
      return one.href ? svg('a', {href: one.href, 'aria-label': one.hint}, group) : group;
    });
    const focused = document.activeElement?.getAttribute('href');
    drawing.setAttribute('viewBox', `0 0 1140 ${height}`);
    replace(drawing, ...TITLES.map((title, column) => svg('text', {class: 'column', x: LEFT[column], y: 16}, title)), ...lines, ...nodes);
    if (focused && document.activeElement === document.body) {
      const again = [...drawing.querySelectorAll('a')].find(link => link.getAttribute('href') === focused);
      again?.focus();
    }
  }

  return {
    title: query.has('host') ? `Topology of ${query.get('host')}` : 'Topology', topics: ['status', 'hosts', 'backends'], element,
    update: changed => {
      routes.follow();
      endpoints.follow();
      const now = Date.now();
      for (const worker of changed.has('status') ? live.status.workers ?? [] : []) {
        const last = before.get(workerName(worker));
        const at = {at: now, netns: worker.netns.requests, host: worker.host.requests};
        if (last && now - last.at < 900) continue;
        if (last) {
          const seconds = (now - last.at) / 1000;
          workerRates.set(workerName(worker), {netns: Math.max(0, at.netns - last.netns) / seconds, host: Math.max(0, at.host - last.host) / seconds});
        }
        before.set(workerName(worker), at);
      }
      if (changed.has('sample') || changed.has('traffic')) draw();
    },
  };
}

/** @param {import('./types.js').Worker} worker */
function workerName(worker) {
  return worker.node ? `${worker.node} ${worker.worker}` : `worker ${worker.worker}`;
}
