// All routes, with what they carry: 10,000 rows and more.

import {get} from './api.js';
import {h, setText} from './dom.js';
import {choiceField, remember, textField} from './filter.js';
import {ago, count, duration, objectName, plural, rate} from './format.js';
import {live} from './live.js';
import {nodesColumn} from './nodes.js';
import {Resource} from './resource.js';
import {Table, download} from './table.js';

/** @typedef {import('./types.js').Route} Route */

/** @param {URLSearchParams} query @returns {import('./types.js').Page} */
export function routes(query) {
  /** @type {Map<string, string>} */
  let uses = new Map();
  /** @type {Resource<Route[]>} */
  const all = new Resource('routes', [], show);
  /** @type {import('./types.js').Column<Route>[]} */
  const columns = [
    {id: 'host', title: 'Host', width: 180, text: route => route.host, href: routeLink},
    {id: 'path', title: 'Path', width: 110, text: route => route.path || '(default)'},
    {id: 'target', title: 'To', width: 140, text: target},
    {id: 'ready', title: 'Ready', width: 84, numeric: true, sort: route => endpoints(route).ready,
      text: ready, tone: route => isServed(route) ? (endpoints(route).draining ? 'warn' : 'ok') : 'bad',
      hint: route => isServed(route) ? `${endpoints(route).ready} ready, ${endpoints(route).draining} draining`
        : 'No endpoint is ready: the answer is 503. See the Problems page.'},
    {id: 'requests', title: 'Requests', width: 90, numeric: true, sort: route => total(route)?.requests ?? 0,
      text: route => count(total(route)?.requests ?? 0)},
    {id: 'rate', title: 'Req/s', width: 68, numeric: true, sort: route => rates(route).requests,
      text: route => rate(rates(route).requests)},
    {id: '4xx', title: '4xx', width: 62, numeric: true, sort: route => total(route)?.client_errors ?? 0,
      text: route => count(total(route)?.client_errors ?? 0)},
    {id: '5xx', title: '5xx', width: 62, numeric: true, sort: route => total(route)?.server_errors ?? 0,
      text: route => count(total(route)?.server_errors ?? 0),
      tone: route => (total(route)?.server_errors ?? 0) > 0 ? 'bad' : 'plain'},
    {id: 'p99', title: 'p99', width: 72, numeric: true, sort: route => rates(route).p99 ?? -1,
      text: route => duration(rates(route).p99)},
    {id: 'used', title: 'Last used', width: 112, sort: route => uses.get(name(route)) ?? '',
      text: route => used(uses.get(name(route)), route),
      hint: route => uses.get(name(route)) ?? (total(route)?.requests ? 'Before this dashboard looked' : 'No request since the daemon started')},
    {id: 'type', title: 'Type', width: 76, text: route => route.path_type},
    {id: 'object', title: 'Object', width: 150, text: route => objectName(route.object)},
    ...nodesColumn(),
  ];
  const table = new Table({label: 'Routes', columns, key: route => `${name(route)} ${route.path_type} ${objectName(route.object)} ${route.nodes ?? ''}`,
    sort: query.get('sort') ?? 'host', descending: query.get('order') === 'desc', empty: 'No route matches the filter.',
    onSort: (sort, descending) => {
      query.set('sort', sort);
      query.set('order', descending ? 'desc' : 'asc');
      remember('routes', query);
    }});
  const shown = h('p', {class: 'count', role: 'status'});
  /** @type {Route[]} */
  let matching = [];

  function show() {
    const text = (query.get('q') ?? '').toLowerCase();
    const namespace = query.get('namespace') ?? '';
    const only = query.get('only') ?? '';
    matching = all.value.filter(route =>
      (namespace === '' || route.object.namespace === namespace)
      && (text === '' || `${route.host}${route.path} ${objectName(route.object)} ${target(route)}`.toLowerCase().includes(text))
      && isWanted(route, only, uses));
    table.show(matching, all.reason(all.value.length === 0
      ? 'No route: no Ingress of the controller’s class exists. `kubectl get ingress -A` shows all classes.' : 'No route matches the filter.'));
    setText(shown, all.isLoaded ? `${count(matching.length)} of ${plural(all.value.length, 'route')}` : '');
    document.body.dataset.routes = String(matching.length);
  }

  function onFilter() {
    remember('routes', query);
    show();
  }

  function loadUses() {
    get('uses').then((/** @type {import('./types.js').LastUse[]} */ list) => {
      uses = new Map(list.map(use => [use.route, use.time]));
      if (query.has('only')) show();
    }, () => {});
  }
  loadUses();
  const timer = setInterval(loadUses, 10_000);
  const search = textField('Search', 'q', query, onFilter, {search: true, placeholder: 'host, path, object or backend', wide: true});
  const element = h('div', {class: 'fill'}, h('div', {class: 'filters'}, search,
    textField('Namespace', 'namespace', query, onFilter),
    choiceField('Show', 'only', [['', 'All'], ['errors', 'With 5xx or without endpoint'], ['used', 'Used since the start'],
      ['unused', 'Not used since the start'], ['idle', 'Not used for a day']], query, onFilter),
    h('button', {type: 'button', onclick: () => download('routes.csv', columns, matching)}, 'CSV')), shown, table.element);
  let drawn = 0;
  return {
    title: 'Routes', topics: ['routes'], element,
    update: changed => {
      all.follow();
      if (!changed.has('traffic') && !changed.has('sample')) return;
      // An order that jumps cannot be read: rows are sorted anew every five seconds.
      if (Date.now() - drawn > 5000 && query.has('sort') && !['host', 'path', 'type', 'object'].includes(query.get('sort') ?? '')) {
        drawn = Date.now();
        table.show(matching);
      } else {
        table.draw();
      }
    },
    close: () => clearInterval(timer),
  };
}

/** @param {Route} route @param {string} only @param {Map<string, string>} uses */
function isWanted(route, only, uses) {
  const time = uses.get(name(route));
  if (only === 'errors') return !isServed(route) || (total(route)?.server_errors ?? 0) > 0;
  if (only === 'used') return time !== undefined || (total(route)?.requests ?? 0) > 0;
  if (only === 'unused') return time === undefined && (total(route)?.requests ?? 0) === 0;
  if (only === 'idle') return time === undefined || Date.now() - Date.parse(time) > 86_400_000;
  return true;
}

/** @param {string | undefined} time @param {Route} route */
function used(time, route) {
  if (time === undefined) return (total(route)?.requests ?? 0) > 0 ? 'earlier' : 'not yet';
  return ago(time);
}

/** The name under which requests of a route are counted. @param {Route} route */
export function name(route) {
  return `${route.host === '*' ? '' : route.host}${route.path}`;
}

/** @param {Route} route */
function total(route) {
  return live.total('routes', name(route));
}

/** @param {Route} route */
export function rates(route) {
  return live.rate('routes', name(route));
}

/** @param {Route} route */
export function routeLink(route) {
  return `#/route?${new URLSearchParams({host: route.host, path: route.path, object: objectName(route.object)})}`;
}

/** @param {Route} route */
export function target({target}) {
  if (target.kind === 'backends') return target.backends.map(share => share.backend).join(', ');
  if (target.kind === 'redirect') return `${target.status} ${target.location}`;
  return target.kind === 'respond' ? `answers ${target.status}` : 'answers 503: cannot be served';
}

/** @param {Route} route */
export function endpoints({target}) {
  const backends = target.kind === 'backends' ? target.backends : [];
  return {
    ready: backends.reduce((sum, share) => sum + share.endpoints, 0),
    draining: backends.reduce((sum, share) => sum + share.draining, 0),
  };
}

/** @param {Route} route */
export function isServed(route) {
  return route.target.kind === 'backends' ? endpoints(route).ready > 0 : route.target.kind !== 'unavailable';
}

/** @param {Route} route */
function ready(route) {
  if (route.target.kind !== 'backends') return isServed(route) ? 'no endpoint needed' : 'not served';
  const {ready, draining} = endpoints(route);
  return draining ? `${ready} (${draining} draining)` : String(ready);
}
