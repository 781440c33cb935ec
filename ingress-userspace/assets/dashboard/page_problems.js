// What users can mend, and the configurations of the last while.

import {card, command, empty, h, replace, setText} from './dom.js';
import {choiceField, remember, textField} from './filter.js';
import {ago, count, plural, utc} from './format.js';
import {live} from './live.js';
import {nodeColumn, nodesColumn} from './nodes.js';
import {fix} from './page_overview.js';
import {Resource} from './resource.js';
import {Table} from './table.js';

/** @typedef {import('./types.js').Problem} Problem */
/** @typedef {import('./types.js').Generation} Generation */

/** @param {URLSearchParams} query @returns {import('./types.js').Page} */
export function problems(query) {
  /** @type {Resource<Problem[]>} */
  const all = new Resource('problems', [], show);
  /** @type {Resource<Generation[]>} */
  const generations = new Resource('generations', [], showGenerations);
  const next = h('div', {class: 'slot'});
  const table = new Table({label: 'Problems', key: one => one.text, sort: 'severity', empty: 'No problem matches the filter.', columns: [
    {id: 'severity', title: 'Severity', width: 100, text: one => one.severity, tone: one => one.severity === 'error' ? 'bad' : 'warn'},
    {id: 'object', title: 'Object', width: 180, text: one => one.object ?? '–', href: link},
    {id: 'field', title: 'Field', width: 220, text: one => one.field ?? '–'},
    {id: 'text', title: 'Problem', width: 430, text: words},
    {id: 'since', title: 'Since', width: 100, text: one => ago(one.since), sort: one => one.since, hint: one => utc(one.since)},
    ...nodesColumn(),
  ]});
  const history = new Table({label: 'Configurations', key: one => `${one.node ?? ''} ${one.generation} ${one.time}`, sort: live.isOfNodes ? 'time' : 'generation', descending: true,
    empty: 'No configuration is published yet.', columns: /** @type {import('./types.js').Column<Generation>[]} */ ([
      ...nodeColumn(),
      {id: 'generation', title: 'Generation', width: 120, numeric: true, text: one => count(one.generation), sort: one => one.generation},
      {id: 'time', title: 'Published', width: 130, text: one => ago(one.time), sort: one => one.time, hint: one => utc(one.time)},
      {id: 'changes', title: 'Changed', width: 340, text: changes},
      {id: 'hosts', title: 'Hosts', width: 90, numeric: true, text: one => count(one.hosts), sort: one => one.hosts},
      {id: 'rules', title: 'Rules', width: 90, numeric: true, text: one => count(one.rules), sort: one => one.rules},
      {id: 'endpoints', title: 'Endpoints', width: 110, numeric: true, text: one => count(one.endpoints), sort: one => one.endpoints}])});
  const shown = h('p', {class: 'count', role: 'status'});

  /** @param {Generation} one */
  function changes(one) {
    const own = generations.value.filter(other => other.node === one.node);
    const before = own.find(other => other.generation < one.generation
      && !own.some(third => third.generation > other.generation && third.generation < one.generation));
    if (before === undefined) return 'first that was seen';
    const parts = /** @type {const} */ (['hosts', 'rules', 'backends', 'endpoints', 'certificates']).flatMap(name => {
      const difference = one[name] - before[name];
      return difference === 0 ? [] : [`${difference > 0 ? '+' : '−'}${Math.abs(difference)} ${name}`];
    });
    return parts.join(', ') || 'contents, not numbers';
  }

  function show() {
    const text = (query.get('q') ?? '').toLowerCase();
    const severity = query.get('severity') ?? '';
    const rows = all.value.filter(one => one.text.toLowerCase().includes(text) && (severity === '' || one.severity === severity));
    table.show(rows, all.reason(all.value.length === 0 ? 'No problem: everything that objects ask for is served.' : 'No problem matches the filter.'));
    setText(shown, all.isLoaded ? `${count(rows.length)} of ${plural(all.value.length, 'problem')}` : '');
    const first = rows.find(one => one.object !== null);
    replace(next, first?.object ? h('div', {}, h('p', {}, `Next: mend ${first.field ?? 'the object'} of ${first.object}.`), command(fix(first.object)))
      : empty(all.value.length === 0 ? 'Nothing to do.' : 'None of these problems belongs to an object.'));
  }

  function showGenerations() {
    history.show(generations.value);
  }

  function onFilter() {
    remember('problems', query);
    show();
  }

  let problemCount = -1;
  return {
    title: 'Problems', topics: ['status'],
    element: h('div', {class: 'stack'}, h('div', {class: 'filters'}, textField('Search', 'q', query, onFilter, {search: true, wide: true}),
      choiceField('Severity', 'severity', [['', 'All'], ['error', 'Errors'], ['warning', 'Warnings']], query, onFilter)),
    shown, table.element, card('Next step', next), card('Configurations', history.element)),
    update: () => {
      all.follow();
      generations.follow();
      const now = live.status.problems?.length ?? -1;
      if (now !== problemCount && problemCount !== -1) all.load();
      problemCount = now;
    },
  };
}

/** The problem without the names that have columns of their own. @param {Problem} one */
function words(one) {
  const prefix = `${one.object}: ${one.field}: `;
  return one.object && one.text.startsWith(prefix) ? one.text.slice(prefix.length) : one.text;
}

/** @param {Problem} one */
function link(one) {
  return one.object?.startsWith('Ingress ') ? `#/routes?${new URLSearchParams({q: one.object.slice(8)})}` : null;
}
