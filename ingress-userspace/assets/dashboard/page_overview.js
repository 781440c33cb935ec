// Whether anything is wrong, in five seconds.

import {Chart} from './chart.js';
import {get} from './api.js';
import {badge, card, command, facts, h, replace} from './dom.js';
import {ago, bytes, count, duration, plural, quantile, rate, utc} from './format.js';
import {live} from './live.js';
import {nodesTable, nodesText} from './nodes.js';
import {Resource} from './resource.js';

/** @returns {import('./types.js').Page} */
export function overview() {
  const charts = {
    requests: new Chart('Requests a second', ['requests'], rate),
    errors: new Chart('Errors a second', ['4xx', '5xx'], rate),
    latency: new Chart('Response time', ['p99', 'p50'], duration),
    connections: new Chart('Connections', ['open', 'accepted/s'], rate),
    cpu: new Chart('CPU', ['cores'], value => value.toFixed(2)),
    memory: new Chart('Memory', ['resident'], bytes),
  };
  const node = h('div', {class: 'slot'});
  const datapath = h('div', {class: 'slot'});
  const wrong = h('div', {class: 'slot'});
  const certificates = h('div', {class: 'slot'});
  /** @type {Resource<import('./types.js').Problem[]>} */
  const problems = new Resource('problems', [], showProblems);
  /** @type {Resource<import('./types.js').Certificate[]>} */
  const held = new Resource('certificates', [], showCertificates);
  let problemCount = -1;
  const nodes = nodesTable();

  function showProblems() {
    const all = problems.value;
    const errors = all.filter(problem => problem.severity === 'error').length;
    const shown = all.slice(0, 5).map(problem => h('li', {},
      badge(problem.severity === 'error' ? 'bad' : 'warn', problem.severity), ' ', problem.text,
      problem.object ? command(fix(problem.object)) : null));
    replace(wrong, h('p', {class: 'headline'}, all.length === 0 ? badge('ok', 'No problems')
      : badge(errors ? 'bad' : 'warn', `${plural(errors, 'error')}, ${plural(all.length - errors, 'warning')}`)),
    all.length === 0 ? null : h('ul', {class: 'problems'}, ...shown),
    all.length > 5 ? h('p', {}, h('a', {href: '#/problems'}, `All ${count(all.length)} problems`)) : null);
  }

  function showCertificates() {
    const ending = held.value.filter(one => one.days_left === null || one.days_left < 30)
      .sort((a, b) => (a.days_left ?? -1) - (b.days_left ?? -1));
    replace(certificates, h('p', {class: 'headline'}, ending.length === 0
      ? badge('ok', held.value.length === 0 ? 'No certificates: hosts get the default one' : `${plural(held.value.length, 'certificate')}, none ends within 30 days`)
      : badge('warn', `${plural(ending.length, 'certificate')} within 30 days of the end`)),
    h('ul', {class: 'list'}, ...ending.slice(0, 5).map(one => h('li', {}, h('a', {href: '#/certificates'}, one.host), ': ',
      one.days_left === null ? 'cannot be read' : one.days_left < 0 ? 'has ended' : plural(one.days_left, 'day')))));
  }

  function showNode() {
    const {status} = live;
    const sample = live.samples.at(-1);
    if (status.config === undefined || sample === undefined) return;
    const workers = status.workers ?? [];
    const generation = (/** @type {import('./types.js').Worker} */ worker) =>
      status.nodes?.find(one => one.node === worker.node)?.generation ?? sample.generation;
    const behind = workers.filter(worker => worker.generation !== generation(worker)).length;
    const dead = workers.filter(worker => !worker.is_running).length;
    const isWell = sample.state === 'ready' && dead === 0;
    replace(node, h('p', {class: 'headline'}, badge(isWell ? 'ok' : dead ? 'bad' : 'warn',
      dead ? `${plural(dead, 'worker')} dead: restart the daemon` : nodesText() ?? sample.state)),
    facts([
      ['Version', status.version], [live.isOfNodes ? 'Last start' : 'Up', duration(status.uptime_seconds ?? 0) + (live.isOfNodes ? ' ago' : '')],
      ['Generation', (live.isOfNodes ? 'by node' : count(sample.generation)) + (behind ? `, ${plural(behind, 'worker')} behind` : '')],
      ['Requests', h('span', {'data-value': 'requests'}, count(sample.requests))],
      ['Open', `${plural(sample.connections_open, 'connection')}, ${plural(sample.requests_open, 'request')}`],
      ['Failed handshakes', count(sample.tls_handshake_failures)],
      ['Serves', `${plural(status.config.hosts, 'host')}, ${plural(status.config.rules, 'rule')}, ${plural(status.config.backends, 'backend')}, ${plural(status.config.endpoints, 'endpoint')}`],
    ]));
    if (status.nodes) nodes.show(status.nodes);
    const path = status.datapath;
    if (path === undefined) return;
    replace(datapath, h('p', {class: 'headline'}, badge(path.mode === 'netns' ? 'ok' : 'muted', path.mode === 'netns'
      ? 'eBPF steers packets past netfilter' : 'Ordinary sockets serve')),
    path.reason ? h('p', {}, path.reason) : null,
    facts([['Devices', count(path.devices.length)], ['Direct endpoints', count(path.direct_endpoints)],
      ['Shortcut', path.shortcut.is_on ? 'on' : 'off']]),
    h('p', {}, h('a', {href: '#/datapath'}, 'What the programs did')));
  }

  function draw() {
    const points = pairs(live.samples).map(({before, after, seconds}) => {
      const at = Date.parse(after.time);
      const buckets = after.duration_buckets.map((count, index) => count - (before.duration_buckets[index] ?? 0));
      return {at, seconds, before, after, buckets};
    });
    /** @param {(one: typeof points[0]) => (number | null)[]} values */
    const of = values => points.map(one => ({at: one.at, values: values(one)}));
    charts.requests.draw(of(one => [(one.after.requests - one.before.requests) / one.seconds]));
    charts.errors.draw(of(one => [(one.after.client_errors - one.before.client_errors) / one.seconds,
      (one.after.server_errors - one.before.server_errors) / one.seconds]));
    charts.latency.draw(of(one => [quantile(one.buckets, 0.99), quantile(one.buckets, 0.5)]));
    charts.connections.draw(of(one => [one.after.connections_open,
      (one.after.connections_accepted - one.before.connections_accepted) / one.seconds]));
    charts.cpu.draw(of(one => [(one.after.cpu_seconds - one.before.cpu_seconds) / one.seconds]));
    charts.memory.draw(of(one => [one.after.resident_bytes]));
  }

  get('samples').then(earlier => {
    const first = live.samples[0]?.time;
    const older = earlier.filter((/** @type {import('./types.js').Sample} */ sample) => first === undefined || sample.time < first);
    live.samples.unshift(...older);
    draw();
  }, () => {});

  return {
    title: 'Overview', topics: ['status'],
    element: h('div', {class: 'grid'}, live.isOfNodes ? h('section', {class: 'card all'}, h('h2', {}, 'Nodes'), nodes.element) : null,
      card(live.isOfNodes ? 'All nodes' : 'Node', node), card('Problems', wrong), card('Datapath', datapath),
      card('Certificates', certificates), ...Object.values(charts).map(chart => chart.element)),
    update: changed => {
      if (changed.has('sample')) draw();
      showNode();
      const now = live.status.problems?.length ?? 0;
      if (now !== problemCount && changed.has('status')) {
        problemCount = now;
        problems.load();
      }
      held.follow();
    },
  };
}

/** Samples two by two, without those over a restart, or over which another node has come. @param {import('./types.js').Sample[]} samples */
function pairs(samples) {
  const pairs = [];
  for (let index = 1; index < samples.length; index += 1) {
    const [before, after] = [samples[index - 1], samples[index]];
    const seconds = (Date.parse(after.time) - Date.parse(before.time)) / 1000;
    const hasLeapt = live.isOfNodes && before.generation !== after.generation;
    if (seconds > 0.1 && after.requests >= before.requests && !hasLeapt) pairs.push({before, after, seconds});
  }
  return pairs;
}

/** What mends an object, as a command. @param {string} object such as `Ingress shop/web` */
export function fix(object) {
  const [kind, name] = object.split(' ');
  const [namespace, own] = name?.includes('/') ? name.split('/') : ['', name];
  return `kubectl ${namespace ? `-n ${namespace} ` : ''}edit ${kind.toLowerCase()} ${own}`;
}

/** Since when, with the UTC time on hover. @param {string} time */
export function since(time) {
  return h('time', {datetime: time, title: utc(time)}, ago(time));
}

