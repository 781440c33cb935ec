// Why a request goes where it goes. Nothing is sent: the daemon follows the request through its rules,
// with the code of `sluice explain`.

import {get} from './api.js';
import {badge, card, command, empty, h, replace} from './dom.js';
import {plural} from './format.js';
import {choiceField, remember, textField} from './filter.js';
import {nodesOf, program} from './nodes.js';

/** @typedef {import('./types.js').Explanation} Explanation */

/** @param {URLSearchParams} query @returns {import('./types.js').Page} */
export function explain(query) {
  const answer = h('div', {class: 'slot', 'aria-live': 'polite'});
  const fields = h('textarea', {name: 'fields', rows: '3', placeholder: 'X-Tenant: one', spellcheck: 'false'});
  fields.value = query.getAll('field').join('\n');
  const unchanged = () => {};

  function ask() {
    query.delete('field');
    for (const line of fields.value.split('\n')) if (line.trim() !== '') query.append('field', line);
    const url = /^(https?):\/\/([^/?#]+)([^#]*)/.exec(query.get('host') ?? '');
    if (url) {
      query.set('scheme', url[1]);
      query.set('host', url[2]);
      if (url[3]) query.set('path', url[3]);
      for (const [name, value] of query) {
        const input = form.elements.namedItem(name);
        if (input instanceof HTMLInputElement || input instanceof HTMLSelectElement) input.value = value;
      }
    }
    remember('explain', query);
    if (!query.get('host')) {
      replace(answer, empty('Enter a host, or a whole URL.'));
      return;
    }
    get(`explain?${query}`).then(explanation => replace(answer, ...answers(explanation),
      card('The same in a shell', command(shell(query)))),
    error => replace(answer, h('p', {class: 'error', role: 'alert'}, error.message)));
  }

  const form = h('form', {class: 'filters', onsubmit: event => { event.preventDefault(); ask(); }},
    choiceField('Method', 'method', ['', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS'].map(name => [name, name || 'GET']), query, unchanged),
    textField('Host or URL', 'host', query, unchanged, {search: true, placeholder: 'shop.example.com', wide: true}),
    textField('Path', 'path', query, unchanged, {placeholder: '/'}),
    choiceField('Scheme', 'scheme', [['', 'as the host has it'], ['http', 'http'], ['https', 'https']], query, unchanged),
    textField('Server name (SNI)', 'sni', query, unchanged),
    textField('Client address', 'from', query, unchanged, {placeholder: '192.0.2.1'}),
    h('label', {class: 'field wide'}, h('span', {}, 'Header fields, one a line'), fields),
    h('button', {type: 'submit', class: 'primary'}, 'Explain'));
  ask();
  return {title: 'Explain', topics: [], element: h('div', {}, form, answer), update: () => {}};
}

/** The explanation of a node, or those of several nodes. @param {Explanation | import('./types.js').Answer[]} given */
function answers(given) {
  if (!Array.isArray(given)) return [card('Answer', steps(given))];
  return given.map(one => card(given.length === 1 ? `Answer of ${nodesOf(one)}` : `Answer of ${one.nodes.join(', ')}`, steps(one.answer)));
}

/** An explanation, step by step. @param {Explanation} explanation */
export function steps({host, path, served_by: server, passage, lost, problems}) {
  const list = h('ol', {class: 'steps'});
  /** @param {import('./types.js').Tone} tone @param {string} title @param {string} text */
  const step = (tone, title, text) => list.append(h('li', {}, h('strong', {}, badge(tone, title)), h('span', {}, text)));
  step('plain', 'Request', `${host}${path}`);
  if (passage.is_https) step('plain', 'TLS', passage.certificate ?? 'default certificate');
  if (passage.passed_through_to) step('ok', 'Passed through', `unread to ${passage.passed_through_to}, by the server name`);
  if (server === null) {
    step('bad', 'Rule', passage.passed_through_to ? 'none is asked' : 'none matches: the answer is 404');
  } else {
    step('ok', 'Rule', `${server.host}${server.path || ' (default backend)'} of ${server.object}`);
    for (const check of passage.checks) step('warn', 'Check', check);
    for (const canary of passage.canaries) step('plain', 'Canary', canary);
    if (passage.answer) {
      step('warn', 'Answer', `${passage.answer}, by ${passage.answered_by ?? 'the rule'}; no endpoint is asked`);
    }
    if (passage.sent_host) step('plain', 'Host sent', passage.sent_host);
    if (passage.sent_path) step('plain', 'Path sent', passage.sent_path);
    if (server.backend === null) step('warn', 'Answer', server.answer ?? '503');
    else {
      step('ok', 'Backend', `${server.backend} (${server.protocol ?? ''})`);
      step(server.endpoints.length ? 'ok' : 'bad', 'Endpoints', server.endpoints.length
        ? server.endpoints.join(', ') : 'none is ready: the answer is 503');
      if (server.draining.length) step('warn', 'Draining', server.draining.join(', '));
    }
  }
  return h('div', {}, list,
    h('h3', {}, `Why not another rule (${lost.length})`),
    lost.length === 0 ? empty('No other rule is for this host.') : h('ul', {class: 'list'}, ...lost.slice(0, 100).map(loser =>
      h('li', {}, h('strong', {}, `${loser.host}${loser.path || ' (default)'}`), ` of ${loser.object}: ${loser.reason} `, h('code', {}, loser.field)))),
    lost.length > 100 ? h('p', {}, `and ${plural(lost.length - 100, 'other rule')}`) : null,
    problems.length === 0 ? null : h('h3', {}, 'Problems'),
    h('ul', {class: 'list'}, ...problems.map(problem => h('li', {}, problem))));
}

/** @param {URLSearchParams} query */
function shell(query) {
  /** @param {string} text */
  const quoted = text => /^[\w.:/*-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
  const scheme = query.get('scheme');
  const parts = [program(), 'explain', quoted((scheme ? `${scheme}://` : '') + (query.get('host') ?? '')), quoted(query.get('path') || '/')];
  if (query.get('method')) parts.push('--method', query.get('method') ?? '');
  if (query.get('sni')) parts.push('--sni', quoted(query.get('sni') ?? ''));
  if (query.get('from')) parts.push('--from', quoted(query.get('from') ?? ''));
  for (const field of query.getAll('field')) parts.push('--header', quoted(field));
  return parts.join(' ');
}
