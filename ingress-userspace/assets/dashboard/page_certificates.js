// The certificates of all hosts, those that end first at the top.

import {h, setText} from './dom.js';
import {remember, textField} from './filter.js';
import {count, objectName, plural} from './format.js';
import {nodesColumn} from './nodes.js';
import {Resource} from './resource.js';
import {Table} from './table.js';

/** @typedef {import('./types.js').Certificate} Certificate */

/** @param {URLSearchParams} query @returns {import('./types.js').Page} */
export function certificates(query) {
  /** @type {Resource<Certificate[]>} */
  const all = new Resource('certificates', [], show);
  /** @type {Resource<import('./types.js').Route[]>} */
  const routes = new Resource('routes', [], show);
  const table = new Table({label: 'Certificates', key: one => `${one.host} ${objectName(one.secret)} ${one.nodes ?? ''}`, sort: 'days',
    empty: 'No certificate matches the filter.', columns: [
      {id: 'host', title: 'Host', width: 220, text: one => one.host, href: one => `#/routes?${new URLSearchParams({q: one.host})}`},
      {id: 'days', title: 'Days left', width: 150, text: left, tone, sort: one => one.days_left ?? -1e6},
      {id: 'ends', title: 'Ends', width: 190, text: one => one.not_after ?? '–'},
      {id: 'secret', title: 'Secret', width: 190, text: one => objectName(one.secret),
        hint: one => `kubectl -n ${one.secret.namespace} describe secret ${one.secret.name}`},
      {id: 'names', title: 'Names', width: 220, text: one => one.names.join(', ') || '–'},
      {id: 'issuer', title: 'Issuer', width: 200, text: one => one.issuer || '–'},
      {id: 'acme', title: 'ACME', width: 220, text: order, tone: one => one.order?.error ? 'bad' : 'plain'},
      ...nodesColumn(),
    ]});
  const shown = h('p', {class: 'count', role: 'status'});
  const defaults = h('p', {class: 'hint'});

  function show() {
    const text = (query.get('q') ?? '').toLowerCase();
    const rows = all.value.filter(one => `${one.host} ${objectName(one.secret)} ${one.issuer} ${one.names.join(' ')}`.toLowerCase().includes(text));
    table.show(rows, all.reason(all.value.length === 0
      ? 'No certificate: no TLS section of an Ingress names a Secret. HTTPS is answered with the default certificate.' : 'No certificate matches the filter.'));
    setText(shown, all.isLoaded ? `${count(rows.length)} of ${plural(all.value.length, 'certificate')}` : '');
    const held = new Set(all.value.map(one => one.host));
    const without = new Set(routes.value.map(route => route.host).filter(host => !held.has(host)));
    setText(defaults, all.isLoaded && routes.isLoaded && without.size > 0
      ? `${plural(without.size, 'host')} without a Secret of ${without.size === 1 ? 'its' : 'their'} own: HTTPS gets the default certificate, or one of a wildcard.` : '');
  }

  return {
    title: 'Certificates', topics: [],
    element: h('div', {class: 'fill'}, h('div', {class: 'filters'}, textField('Search', 'q', query, () => { remember('certificates', query); show(); },
      {search: true, placeholder: 'host, Secret or issuer', wide: true})), defaults, shown, table.element),
    update: () => { all.follow(); routes.follow(); },
  };
}

/** @param {Certificate} one */
function left({days_left: days}) {
  if (days === null) return 'cannot be read';
  return days < 0 ? `ended ${plural(-days, 'day')} ago` : plural(days, 'day');
}

/** @param {Certificate} one @returns {import('./types.js').Tone} */
function tone({days_left: days, order}) {
  if (days === null || days < 0) return 'bad';
  return days < (order ? 7 : 30) ? 'warn' : 'ok';
}

/** @param {Certificate} one */
function order({order}) {
  if (order === null) return '–';
  if (order.error) return `${order.issuer}: failed ${order.failed_attempts} times: ${order.error}`;
  return order.renews_at ? `${order.issuer}: renews at ${order.renews_at}` : `${order.issuer}: ordered`;
}
