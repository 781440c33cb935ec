// All endpoints, with the failures of their health checks and the requests of their backends.

import {h, setText} from './dom.js';
import {choiceField, remember, textField} from './filter.js';
import {count, duration, plural, rate} from './format.js';
import {live} from './live.js';
import {nodesColumn} from './nodes.js';
import {Resource} from './resource.js';
import {Table} from './table.js';

/** @typedef {import('./types.js').Endpoint} Endpoint */

/** @param {URLSearchParams} query @returns {import('./types.js').Page} */
export function endpoints(query) {
  /** @type {Resource<Endpoint[]>} */
  const all = new Resource('endpoints', [], show);
  const table = new Table({label: 'Endpoints', key: one => `${one.backend} ${one.address} ${one.nodes ?? ''}`, sort: 'backend',
    empty: 'No endpoint matches the filter.', columns: [
      {id: 'backend', title: 'Backend', width: 220, text: one => one.backend, href: one => `#/routes?${new URLSearchParams({q: one.backend})}`},
      {id: 'address', title: 'Address', width: 170, text: one => one.address},
      {id: 'state', title: 'State', width: 190, text: state, tone: one => failure(one) ? 'bad' : one.state === 'ready' ? 'ok' : 'warn'},
      {id: 'protocol', title: 'Protocol', width: 84, text: one => one.protocol},
      {id: 'path', title: 'Way', width: 76, text: one => one.path,
        hint: one => one.path === 'direct' ? 'From the ingress netns, past the host’s netfilter hooks' : 'Through the host'},
      {id: 'requests', title: 'Requests', width: 96, hint: one => `${count(total(one)?.requests ?? 0)} of all endpoints of ${one.backend}`, numeric: true, text: one => count(total(one)?.requests ?? 0), sort: one => total(one)?.requests ?? 0},
      {id: 'rate', title: 'Req/s', width: 70, numeric: true, text: one => rate(rates(one).requests), sort: one => rates(one).requests},
      {id: '5xx', title: '5xx', width: 80, numeric: true, text: one => count(total(one)?.server_errors ?? 0), sort: one => total(one)?.server_errors ?? 0,
        tone: one => (total(one)?.server_errors ?? 0) > 0 ? 'bad' : 'plain'},
      {id: 'p99', title: 'p99', width: 76, numeric: true, text: one => duration(rates(one).p99), sort: one => rates(one).p99 ?? -1},
      ...nodesColumn(),
    ]});
  const shown = h('p', {class: 'count', role: 'status'});
  const summary = h('p', {class: 'hint'});

  function show() {
    const text = (query.get('q') ?? '').toLowerCase();
    const only = query.get('state') ?? '';
    const rows = all.value.filter(one => `${one.backend} ${one.address}`.toLowerCase().includes(text)
      && (only === '' || (only === 'failing' ? failure(one) !== null : one.state === only)));
    table.show(rows, all.reason(all.value.length === 0
      ? 'No endpoint: no Service that a rule names has a ready pod. `kubectl get endpointslices -A` shows them.' : 'No endpoint matches the filter.'));
    setText(shown, all.isLoaded ? `${count(rows.length)} of ${plural(all.value.length, 'endpoint')}` : '');
  }

  function onFilter() {
    remember('endpoints', query);
    show();
  }

  return {
    title: 'Endpoints', topics: ['status', 'backends'],
    element: h('div', {class: 'fill'}, h('div', {class: 'filters'},
      textField('Search', 'q', query, onFilter, {search: true, placeholder: 'backend or address', wide: true}),
      choiceField('State', 'state', [['', 'All'], ['ready', 'Ready'], ['draining', 'Draining'], ['failing', 'Failing health checks']], query, onFilter)),
    summary, shown, table.element),
    update: changed => {
      all.follow();
      const workers = live.status.workers ?? [];
      const sum = (/** @type {(worker: import('./types.js').Worker) => number} */ of) => workers.reduce((sum, worker) => sum + of(worker), 0);
      const [connects, reuses] = [sum(worker => worker.upstream_connects), sum(worker => worker.upstream_reuses)];
      setText(summary, `Connections of all workers: ${count(connects)} opened, ${count(sum(worker => worker.upstream_connect_failures))} failed, ${
        connects + reuses ? Math.round(reuses / (connects + reuses) * 100) : 0} % of requests over one that was open already, ${
        plural(sum(worker => worker.upstream_ejections), 'ejection')}.`);
      if (changed.has('status') || changed.has('traffic') || changed.has('sample')) table.draw();
    },
  };
}

/** The reason why health checks of an endpoint fail. @param {Endpoint} one @returns {string | null} */
function failure(one) {
  const backend = live.status.health_checks?.find(checked => checked.backend === one.backend);
  const failing = backend?.failing.find(failing => failing.address === one.address
    && (failing.node === undefined || one.nodes?.includes(failing.node)));
  if (failing === undefined) return null;
  return failing.node === undefined ? failing.reason : `at ${failing.node}, ${failing.reason}`;
}

/** @param {Endpoint} one */
function state(one) {
  const reason = failure(one);
  return reason === null ? one.state : `ejected: ${reason}`;
}

/** @param {Endpoint} one */
function total(one) {
  return live.total('backends', one.backend);
}

/** @param {Endpoint} one */
function rates(one) {
  return live.rate('backends', one.backend);
}
