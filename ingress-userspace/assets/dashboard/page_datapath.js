// How packets reach the workers, and what the kernel's programs did with them.

import {badge, card, empty, facts, h, replace} from './dom.js';
import {count, plural, rate} from './format.js';
import {live} from './live.js';
import {nodeColumn} from './nodes.js';
import {Resource} from './resource.js';
import {Table} from './table.js';

/** @typedef {import('./types.js').Counter} Counter */
/** @typedef {import('./types.js').Device} Device */
/** @typedef {import('./types.js').Frontend} Frontend */
/** @typedef {import('./types.js').Worker} Worker */

/** @returns {import('./types.js').Page} */
export function datapath() {
  const mode = h('div', {class: 'slot'});
  /** @type {Map<string, {at: number, packets: number}[]>} */
  const seen = new Map();
  /** @type {Resource<import('./types.js').PacketReason[]>} */
  const reasons = new Resource('reasons', [], () => counters.draw());
  const reasonOf = (/** @type {Counter} */ one) => reasons.value.find(reason => reason.reason === one.reason);
  const rateOf = (/** @type {Counter} */ one) => {
    const all = seen.get(`${one.program} ${one.reason}`);
    if (all === undefined || all.length < 2) return 0;
    const [first, last] = [all[0], all[all.length - 1]];
    return (last.packets - first.packets) / Math.max(1, (last.at - first.at) / 1000);
  };
  const devices = new Table({label: 'Devices', key: one => `${one.node ?? ''} ${one.name}`, sort: 'name',
    empty: 'No device has a program: packets come by ordinary sockets.', columns: /** @type {import('./types.js').Column<Device>[]} */ ([
      ...nodeColumn(),
      {id: 'name', title: 'Device', width: 140, text: one => one.name},
      {id: 'role', title: 'Role', width: 100, text: one => one.role},
      {id: 'datapath', title: 'Packets go', width: 110, text: one => one.datapath, tone: one => one.datapath === 'netns' ? 'ok' : 'warn'},
      {id: 'steer', title: 'steer (TC)', width: 110, text: one => one.steer ?? 'not attached'},
      {id: 'guard', title: 'guard (XDP)', width: 130, text: one => one.guard},
      {id: 'reason', title: 'Reason', width: 320, text: one => one.reason ?? '–'}])});
  const frontends = new Table({label: 'Frontends', key: one => `${one.node ?? ''} ${one.address} ${one.given_by} ${one.ports.join(' ')}`, sort: 'address',
    empty: '', columns: /** @type {import('./types.js').Column<Frontend>[]} */ ([
      ...nodeColumn(),
      {id: 'address', title: 'Address', width: 200, text: one => one.address},
      {id: 'ports', title: 'Ports', width: 180, text: one => one.ports.length ? one.ports.join(', ') : 'all that are listened on'},
      {id: 'steered', title: 'Packets', width: 150, text: one => one.is_steered ? 'steered' : 'by the host', tone: one => one.is_steered ? 'ok' : 'warn'},
      {id: 'given', title: 'Given by', width: 320, text: one => one.given_by}])});
  const counters = new Table({label: 'Packets by program and reason', key: one => `${one.program} ${one.reason}`, sort: 'packets', descending: true,
    empty: 'No packet was counted: no program is loaded.', columns: /** @type {import('./types.js').Column<Counter>[]} */ ([
      {id: 'program', title: 'Program', width: 110, text: one => one.program},
      {id: 'reason', title: 'Reason', width: 160, text: one => one.reason},
      {id: 'verdict', title: 'Verdict', width: 110, text: one => reasonOf(one)?.verdict ?? '–', tone: one => reasonOf(one)?.verdict === 'drop' ? 'bad' : 'plain'},
      {id: 'packets', title: 'Packets', width: 130, numeric: true, text: one => count(one.packets), sort: one => one.packets},
      {id: 'rate', title: 'Per second', width: 120, numeric: true, text: one => rate(rateOf(one)), sort: rateOf},
      {id: 'meaning', title: 'Meaning', width: 420, text: one => reasonOf(one)?.meaning ?? '–'}])});
  const workers = new Table({label: 'Workers', key: one => `${one.node ?? ''} ${one.worker}`, sort: 'worker', empty: 'No worker runs yet.',
    columns: /** @type {import('./types.js').Column<Worker>[]} */ ([
      ...nodeColumn(),
      {id: 'worker', title: 'Worker', width: 90, text: one => String(one.worker), sort: one => one.worker},
      {id: 'state', title: 'State', width: 120, text: one => one.is_running ? 'running' : 'dead', tone: one => one.is_running ? 'ok' : 'bad'},
      {id: 'generation', title: 'Generation', width: 110, numeric: true, text: one => count(one.generation), sort: one => one.generation},
      {id: 'netns', title: 'Requests by netns', width: 150, numeric: true, text: one => count(one.netns.requests), sort: one => one.netns.requests},
      {id: 'host', title: 'Requests by host', width: 150, numeric: true, text: one => count(one.host.requests), sort: one => one.host.requests},
      {id: 'open', title: 'Connections open', width: 150, numeric: true, text: one => count(one.netns.connections_open + one.host.connections_open),
        sort: one => one.netns.connections_open + one.host.connections_open},
      {id: 'panics', title: 'Panics', width: 90, numeric: true, text: one => count(one.panics), tone: one => one.panics ? 'bad' : 'plain'}])});

  function show() {
    const path = live.status.datapath;
    if (path === undefined) return;
    const now = Date.now();
    for (const one of path.counters) {
      const key = `${one.program} ${one.reason}`;
      const all = seen.get(key) ?? [];
      all.push({at: now, packets: one.packets});
      while (all.length > 6) all.shift();
      seen.set(key, all);
    }
    replace(mode, h('p', {class: 'headline'}, badge(path.mode === 'netns' ? 'ok' : 'muted', path.mode === 'netns'
      ? 'netns: steered past netfilter' : 'host: ordinary sockets')), path.reason ? h('p', {}, path.reason) : null,
    facts([
      ...(live.isOfNodes ? (live.status.nodes ?? []).map(node => /** @type {[string, string]} */ ([node.node, node.mode ?? node.state])) : /** @type {[string, string][]} */ ([
        ['Helper process', path.helper_pid === null ? 'none' : String(path.helper_pid)],
        ['Gate', path.gate ? `${path.gate.device} into ${path.gate.netns}` : 'none'],
        ['return_path (TC)', path.gate?.return_path ?? 'not attached']])),
      ['Direct endpoints', plural(path.direct_endpoints, 'address', 'addresses')],
      ['Shortcut', path.shortcut.is_on ? `on, ${plural(path.shortcut.endpoints ?? 0, 'endpoint')}` : `off${path.shortcut.reason ? `: ${path.shortcut.reason}` : ''}`]]),
    path.mode === 'netns' ? null : empty('sluice probe says what this machine offers and what is missing.'));
    devices.show(path.devices);
    frontends.show(live.status.frontends ?? [], path.mode === 'netns'
      ? 'No address: clients do not reach this node by eBPF.' : 'No address is steered: ordinary sockets take what comes to any of them.');
    counters.show(path.counters.filter(one => one.packets > 0), path.mode === 'netns'
      ? 'No packet was counted yet.' : 'No packet was counted: ordinary sockets serve, and no program is loaded.');
    workers.show(live.status.workers ?? []);
  }

  return {
    title: 'Datapath', topics: ['status'],
    element: h('div', {class: 'stack'}, card('Way of packets', mode), card('Workers', workers.element), card('Devices', devices.element), card('Frontends', frontends.element),
      card('Packets', counters.element)),
    update: changed => { if (changed.has('status')) show(); },
  };
}
