// The view of several nodes: their table, and the column that names the nodes of a row.

import {bytes, count, duration, plural} from './format.js';
import {live} from './live.js';
import {Table} from './table.js';

/** @typedef {import('./types.js').Node} Node */

/** A table of all nodes. */
export function nodesTable() {
  return new Table({label: 'Nodes', key: one => one.node, sort: 'node', empty: 'No node is known.',
    columns: /** @type {import('./types.js').Column<Node>[]} */ ([
      {id: 'node', title: 'Node', width: 150, text: one => one.node},
      {id: 'state', title: 'State', width: 90, text: one => one.state, tone},
      {id: 'reason', title: 'Reason', width: 230, text: one => one.reason ?? '–', hint: one => one.reason ?? ''},
      {id: 'requests', title: 'Requests', width: 90, numeric: true, text: one => count(one.requests), sort: one => one.requests},
      {id: '5xx', title: '5xx', width: 80, numeric: true, text: one => count(one.server_errors), sort: one => one.server_errors},
      {id: 'open', title: 'Connections', width: 120, numeric: true, text: one => count(one.connections_open), sort: one => one.connections_open},
      {id: 'memory', title: 'Memory', width: 100, numeric: true, text: one => bytes(one.resident_bytes), sort: one => one.resident_bytes},
      {id: 'mode', title: 'Packets', width: 90, text: one => one.mode ?? '–', hint: one => one.mode_reason ?? ''},
      {id: 'generation', title: 'Generation', width: 110, numeric: true, text: one => count(one.generation), sort: one => one.generation},
      {id: 'up', title: 'Up', width: 90, text: one => one.uptime_seconds === null ? '–' : duration(one.uptime_seconds), sort: one => one.uptime_seconds ?? -1},
      {id: 'version', title: 'Version', width: 100, text: one => one.version ?? '–'}])});
}

/** How many nodes are well; `null` where one is shown. */
export function nodesText() {
  const {nodes} = live.status;
  if (nodes === undefined) return null;
  const others = Map.groupBy(nodes.filter(node => node.state !== 'ready'), node => node.state);
  const ready = nodes.filter(node => node.state === 'ready').length;
  return [`${ready} of ${plural(nodes.length, 'node')} ready`, ...[...others].map(([state, all]) => `${all.length} ${state}`)].join(', ');
}

/** @param {Node} one @returns {import('./types.js').Tone} */
function tone(one) {
  if (one.state === 'away') return 'bad';
  return one.state === 'ready' ? 'ok' : 'warn';
}

/**
 * The column of the nodes that have a row; none where one node is shown.
 * @template {import('./types.js').OfNodes} Row
 * @returns {import('./types.js').Column<Row>[]}
 */
export function nodesColumn() {
  return live.isOfNodes ? [{id: 'nodes', title: 'Nodes', width: 140, text: row => nodesOf(row), hint: row => (row.nodes ?? []).join(', ')}] : [];
}

/**
 * The column of the node that a row belongs to; none where one node is shown.
 * @template {{node?: string}} Row
 * @returns {import('./types.js').Column<Row>[]}
 */
export function nodeColumn() {
  return live.isOfNodes ? [{id: 'node', title: 'Node', width: 140, text: row => row.node ?? '–'}] : [];
}

/** `all` where each node that is reached has the row. @param {import('./types.js').OfNodes} row */
export function nodesOf(row) {
  const nodes = row.nodes ?? [];
  const reached = (live.status.nodes ?? []).filter(node => node.state !== 'away');
  return reached.length > 0 && reached.every(node => nodes.includes(node.node)) ? 'all' : nodes.join(', ');
}

/** The command line that asks the same. */
export function program() {
  return live.isOfNodes ? 'kubectl sluice' : 'sluice';
}
