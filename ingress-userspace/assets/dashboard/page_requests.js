// Requests as they end. At most 200 a second are shown, the others are counted.

import {SYMBOLS, h, replace, setText} from './dom.js';
import {remember, textField} from './filter.js';
import {bytes, clock, count, duration} from './format.js';
import {live} from './live.js';
import {nodeColumn} from './nodes.js';
import {Table} from './table.js';

/** @typedef {import('./types.js').TailLine} TailLine */

/** @param {URLSearchParams} query @returns {import('./types.js').Page} */
export function requests(query) {
  live.requests = [];
  live.dropped = 0;
  live.isPaused = false;
  /** @type {WeakMap<TailLine, string>} */
  const keys = new WeakMap();
  let number = 0;
  const keyOf = (/** @type {TailLine} */ line) => {
    let key = keys.get(line);
    if (key === undefined) {
      number += 1;
      key = String(number);
      keys.set(line, key);
    }
    return key;
  };
  const table = new Table({label: 'Requests', key: keyOf, sort: 'time', descending: true, empty: '', columns: /** @type {import('./types.js').Column<TailLine>[]} */ ([
    {id: 'time', title: 'Time', width: 86, text: line => clock(line.time), sort: line => line.time, hint: line => `${line.time} (UTC)`},
    {id: 'status', title: 'Status', width: 80, text: line => String(line.status), tone: line => line.status >= 500 ? 'bad' : line.status >= 400 ? 'warn' : 'ok'},
    {id: 'took', title: 'Took', width: 84, numeric: true, text: line => duration(line.seconds), sort: line => line.seconds},
    {id: 'method', title: 'Method', width: 84, text: line => line.method},
    {id: 'host', title: 'Host', width: 150, text: line => line.host},
    {id: 'path', title: 'Path', width: 200, text: line => line.path, href: explainLink, hint: line => `Explain ${line.host}${line.path}`},
    {id: 'client', title: 'Client', width: 120, text: line => line.client},
    {id: 'endpoint', title: 'Endpoint', width: 160, text: line => line.endpoint ?? 'none'},
    {id: 'service', title: 'Service', width: 130, text: line => line.service ?? '–'},
    {id: 'attempts', title: 'Tries', width: 62, numeric: true, text: line => String(line.attempts)},
    {id: 'sent', title: 'Sent', width: 82, numeric: true, text: line => bytes(line.sent), sort: line => line.sent},
    ...nodeColumn(),
  ])});
  const shown = h('p', {class: 'count', role: 'status'});
  const pause = h('button', {type: 'button', 'aria-pressed': 'false', onclick: () => {
    live.isPaused = !live.isPaused;
    pause.setAttribute('aria-pressed', String(live.isPaused));
    setText(pause, live.isPaused ? 'Go on' : 'Pause');
    show();
  }}, 'Pause');
  const nothing = () => {};
  const form = h('form', {class: 'filters', onsubmit: event => {
    event.preventDefault();
    remember('requests', query);
    live.requests = [];
    live.dropped = 0;
    live.follow(['tail'], query);
    show();
  }}, textField('Host', 'host', query, nothing, {search: true, placeholder: '*.shop.example'}), textField('Path begins with', 'path', query, nothing, {placeholder: '/api'}),
  textField('Status', 'status', query, nothing, {placeholder: '5xx, 404'}), textField('Method', 'method', query, nothing, {placeholder: 'GET'}),
  textField('Slower than', 'slower', query, nothing, {placeholder: '500ms'}), textField('Client or endpoint', 'peer', query, () => show(), {placeholder: '10.0.0.7'}),
  h('button', {type: 'submit', class: 'primary'}, 'Apply'), pause);
  const element = h('div', {class: 'fill'}, form, shown, table.element);

  function show() {
    const peer = query.get('peer') ?? '';
    const rows = live.requests.filter(line => peer === '' || line.client.includes(peer) || (line.endpoint ?? '').includes(peer));
    const reason = live.state === 'refused' ? `Requests are not shown: ${live.reason}.`
      : 'No request that fits has ended since this page was opened.';
    table.show([...rows], reason);
    setText(shown, `${count(rows.length)} shown${live.dropped ? `, ${SYMBOLS.warn}${count(live.dropped)} not: they came faster than they are shown${live.isPaused ? ', or while paused' : ''}` : ''}`);
  }

  if (live.hello !== null && !live.hello.tail_is_on) {
    replace(element, h('p', {class: 'empty'}, 'Requests are not shown: the daemon runs with --dashboard-tail=false. All other pages work.'));
    return {title: 'Requests', topics: [], element, update: () => {}};
  }
  return {
    title: 'Requests', topics: ['tail'], filter: query, element,
    update: changed => { if (changed.has('requests') || changed.has('dropped') || changed.has('state')) show(); },
    close: () => { live.requests = []; live.isPaused = false; },
  };
}

/** @param {TailLine} line */
function explainLink(line) {
  return `#/explain?${new URLSearchParams({host: line.host, path: line.path, method: line.method === 'GET' ? '' : line.method, scheme: line.scheme})}`;
}
