// One route: what leads to it, what it leads to, and why other rules do not.

import {get} from './api.js';
import {bars} from './chart.js';
import {badge, card, command, empty, facts, h, replace} from './dom.js';
import {BOUNDS, count, duration, objectName, rate} from './format.js';
import {live} from './live.js';
import {program} from './nodes.js';
import {steps} from './page_explain.js';
import {fix, since} from './page_overview.js';
import {endpoints, isServed, name, rates, routeLink, target} from './page_routes.js';
import {Resource} from './resource.js';

/** @typedef {import('./types.js').Route} Route */

/** @param {URLSearchParams} query @returns {import('./types.js').Page} */
export function route(query) {
  const host = query.get('host') ?? '';
  const path = query.get('path') ?? '';
  const about = h('div', {class: 'slot'});
  const traffic = h('div', {class: 'slot'});
  const rules = h('div', {class: 'slot'});
  const backends = h('div', {class: 'slot'});
  const explained = h('div', {class: 'slot'}, empty('Loading …'));
  const wrong = h('div', {class: 'slot'});
  /** @type {Resource<Route[]>} */
  const all = new Resource('routes', [], show);
  /** @type {Resource<import('./types.js').Endpoint[]>} */
  const known = new Resource('endpoints', [], show);
  /** @type {Resource<import('./types.js').Problem[]>} */
  const problems = new Resource('problems', [], show);

  /** @returns {Route | undefined} */
  function found() {
    const same = all.value.filter(route => route.host === host && route.path === path);
    return same.find(route => objectName(route.object) === query.get('object')) ?? same[0];
  }

  function show() {
    const route = found();
    if (route === undefined) {
      replace(about, empty(all.reason(`The host ${host} has no rule for the path ${path || '(default)'} any more.`)));
      return;
    }
    const {kind, namespace} = route.object;
    const {ready, draining} = endpoints(route);
    replace(about, h('p', {class: 'headline'}, badge(isServed(route) ? 'ok' : 'bad', isServed(route)
      ? `Served by ${target(route)}` : 'Answers 503: no endpoint is ready')),
    facts([['Host', route.host], ['Path', `${route.path || '(default backend)'} (${route.path_type})`],
      ['Object', `${kind} ${objectName(route.object)}`], ['TLS', route.tls ? 'yes' : 'no'],
      ['Endpoints', `${ready} ready, ${draining} draining`]]),
    command(`kubectl -n ${namespace} get ${kind.toLowerCase()} ${route.object.name} -o yaml`),
    command(`kubectl -n ${namespace} describe ${kind.toLowerCase()} ${route.object.name}`),
    command(`${program()} explain ${route.host} ${route.path || '/'}`));
    const own = all.value.filter(other => other.host === host);
    replace(rules, h('ol', {class: 'rules'}, ...own.map(other => h('li', {'aria-current': other === route ? 'true' : null},
      h('a', {href: routeLink(other)}, `${other.path || '(default)'}`), ` ${other.path_type} → ${target(other)}`,
      h('span', {class: 'hint'}, ` ${objectName(other.object)}`)))));
    const shares = route.target.kind === 'backends' ? route.target.backends : [];
    const weights = shares.reduce((sum, share) => sum + share.weight, 0);
    replace(backends, shares.length === 0 ? empty('No endpoint is asked: the proxy answers by itself.')
      : h('ul', {class: 'list'}, ...shares.map(share => h('li', {}, h('strong', {}, share.backend),
        ` ${weights ? Math.round(share.weight / weights * 100) : 0} %${share.canary ? ', canary' : ''}`,
        h('ul', {class: 'list inner'}, ...known.value.filter(one => one.backend === share.backend).slice(0, 50).map(one =>
          h('li', {}, badge(one.state === 'ready' ? 'ok' : 'warn', one.state), ` ${one.address} `, h('span', {class: 'hint'}, `${one.protocol}, ${one.path}`)))),
        share.endpoints + share.draining === 0 ? command(`kubectl -n ${share.backend.split('/')[0]} get pods,endpointslices`) : null))));
    const object = `${kind} ${objectName(route.object)}`;
    const own_problems = problems.value.filter(problem => problem.object === object);
    replace(wrong, own_problems.length === 0 ? h('p', {}, badge('ok', 'None of this object'))
      : h('ul', {class: 'problems'}, ...own_problems.map(problem => h('li', {}, badge(problem.severity === 'error' ? 'bad' : 'warn', problem.severity),
        ` ${problem.text} `, since(problem.since)))), own_problems.length ? command(fix(object)) : null);
    showTraffic(route);
  }

  /** @param {Route} route */
  function showTraffic(route) {
    const total = live.total('routes', name(route));
    const now = rates(route);
    if (total === null) {
      replace(traffic, empty('No request since the daemon started.'));
      return;
    }
    replace(traffic, facts([['Requests', h('span', {'data-value': 'requests'}, count(total.requests))], ['Now', `${rate(now.requests)} a second`],
      ['4xx', count(total.client_errors)], ['5xx', count(total.server_errors)],
      ['p50, p99 now', `${duration(now.p50)}, ${duration(now.p99)}`]]),
    h('h3', {}, 'Response times since the start'),
    bars([...BOUNDS.map(bound => `≤ ${duration(bound)}`), '> 10 s'], total.duration_buckets));
  }

  const question = new URLSearchParams({host: host === '*' ? 'any.invalid' : host.replace(/^\*/, 'any'), path: path || '/'});
  get(`explain?${question}`).then(given => replace(explained, ...(Array.isArray(given)
    ? given.flatMap(one => [given.length > 1 ? h('h3', {}, one.nodes.join(', ')) : null, steps(one.answer)]) : [steps(given)])),
    error => replace(explained, empty(`Not explained: ${error.message}`)));
  let generation = -1;
  return {
    title: `${host}${path}`, topics: ['routes'],
    element: h('div', {class: 'grid wide'}, card('Route', about), card('Requests', traffic), card('Rules of the host, in order', rules),
      card('Backends', backends), card('Problems', wrong),
      card('A request for it', explained, h('p', {}, h('a', {href: `#/explain?${question}`}, 'Explain another request')))),
    update: changed => {
      all.follow();
      known.follow();
      const now = live.samples.at(-1)?.generation ?? -1;
      if (now !== generation && generation !== -1) problems.load();
      generation = now;
      const route = found();
      if (route && (changed.has('traffic') || changed.has('sample'))) showTraffic(route);
    },
  };
}
