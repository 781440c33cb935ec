// What the stream has told so far, for all pages: samples, status, requests by host, backend and route.

import {Refused, get, stream} from './api.js';
import {quantile} from './format.js';

/** @typedef {import('./types.js').Traffic} Traffic */

/** Over which rates are taken, in milliseconds. */
const WINDOW = 5000;
const SAMPLES_MAX = 900;
const RETRY_MS = [500, 1000, 2000, 3000];

/** Requests of one name, and its rates. */
class Series {
  constructor() {
    /** @type {{at: number, row: Traffic}[]} */
    this.seen = [];
  }

  /** @param {Traffic} row @param {number} at */
  add(row, at) {
    this.seen.push({at, row});
    while (this.seen.length > 2 && this.seen[1].at < at - WINDOW) this.seen.shift();
  }

  get last() {
    return this.seen[this.seen.length - 1].row;
  }

  /** @param {number} now @returns {import('./types.js').Rate} */
  rate(now) {
    const last = this.last;
    let first = this.seen[0];
    for (const one of this.seen) if (one.at <= now - WINDOW) first = one;
    const seconds = Math.min(WINDOW, Math.max(1000, now - this.seen[0].at)) / 1000;
    const older = first.row;
    const buckets = last.duration_buckets.map((count, index) => count - (older.duration_buckets[index] ?? 0));
    return {
      requests: (last.requests - older.requests) / seconds,
      clientErrors: (last.client_errors - older.client_errors) / seconds,
      serverErrors: (last.server_errors - older.server_errors) / seconds,
      p50: quantile(buckets, 0.5),
      p99: quantile(buckets, 0.99),
    };
  }
}

/** @param {Traffic} row @returns {Traffic} */
function zero(row) {
  return {...row, requests: 0, client_errors: 0, server_errors: 0, received: 0, sent: 0, duration_buckets: []};
}

const IDLE = {requests: 0, clientErrors: 0, serverErrors: 0, p50: null, p99: null};

class Live {
  constructor() {
    /** @type {import('./types.js').Hello | null} */
    this.hello = null;
    /** @type {import('./types.js').Sample[]} */
    this.samples = [];
    /** @type {Partial<import('./types.js').Status>} */
    this.status = {};
    /** @type {Record<string, Map<string, Series>>} */
    this.traffic = {hosts: new Map(), backends: new Map(), routes: new Map()};
    /** @type {import('./types.js').TailLine[]} */
    this.requests = [];
    this.dropped = 0;
    /** @type {'connecting' | 'live' | 'stalled' | 'lost' | 'refused' | 'ended'} */
    this.state = 'connecting';
    this.reason = '';
    /** @type {(changed: Set<string>) => void} */
    this.onChange = () => {};
    /** @type {() => void} */
    this.onEnd = () => {};
    /** @type {() => void} */
    this.onRestart = () => {};
    /** The daemon's time of the last look: rates are taken by it, not by when an event arrived. */
    this.clock = 0;
    this.looks = 0;
    /** @type {string | null} */
    this.lastId = null;
    this.query = '';
    /** @type {AbortController | null} */
    this.current = null;
    /** @type {Set<string>} */
    this.changed = new Set();
    this.isPaused = false;
    /** Whether several nodes are shown as one. */
    this.isOfNodes = false;
    /** The look whose sums have leapt, because a node came or restarted: no rate is taken over it. */
    this.leap = 0;
  }

  /** Follows other topics from now on. @param {string[]} topics @param {URLSearchParams} [filter] */
  follow(topics, filter = new URLSearchParams()) {
    const query = new URLSearchParams(filter);
    // The frame names the state of each node.
    query.set('topics', [...topics, ...this.isOfNodes && !topics.includes('status') ? ['status'] : []].join(','));
    if (this.query === query.toString() && this.current !== null) return;
    this.query = query.toString();
    this.open();
  }

  open() {
    this.current?.abort();
    const current = new AbortController();
    this.current = current;
    void this.run(current);
  }

  close() {
    this.current?.abort();
    this.current = null;
  }

  /** @param {AbortController} current */
  async run(current) {
    for (let attempt = 0; !current.signal.aborted; attempt += 1) {
      try {
        await stream(this.query, this.lastId, current.signal, (event, data, id) => {
          if (current.signal.aborted) return;
          attempt = 0;
          this.lastId = id;
          this.take(event, data);
        });
        this.set('lost', 'the daemon ended the stream');
      } catch (error) {
        if (current.signal.aborted) return;
        if (error instanceof Refused && error.status === 401) {
          const was = this.lastId?.slice(0, this.lastId.lastIndexOf('-'));
          const restarted = was !== undefined && was !== error.body.instance;
          this.set('ended', restarted
            ? 'The daemon has restarted and has forgotten its sessions.' : 'The session has ended.');
          this.onEnd();
          return;
        }
        if (error instanceof Refused) this.set('refused', error.message);
        else this.set('lost', this.isOfNodes ? 'does `kubectl sluice dashboard` still run?' : 'the daemon does not answer');
      }
      const pause = RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)];
      await new Promise(resolve => setTimeout(resolve, pause));
    }
  }

  /** @param {string} event @param {any} data */
  take(event, data) {
    if (event === 'hello') {
      this.hello = data;
      this.looks = 0;
      this.leap = 0;
      this.set('live', '');
      if (data.is_resumed === false) {
        this.forget();
        this.onRestart();
      }
    } else if (event === 'sample') {
      this.clock = Date.parse(data.time);
      this.looks += 1;
      const before = this.samples.at(-1);
      if (this.isOfNodes && before && before.generation !== data.generation) this.leap = this.looks;
      if (this.state !== 'live') this.set('live', '');
      if (this.samples.at(-1)?.time !== data.time) this.samples.push(data);
      if (this.samples.length > SAMPLES_MAX) this.samples.shift();
    } else if (event === 'stalled') {
      this.set('stalled', `control has not answered for ${data.seconds} s; requests are served`);
    } else if (event === 'status') {
      Object.assign(this.status, data);
    } else if (event === 'traffic') {
      const series = this.traffic[data.by];
      for (const row of data.rows) {
        let one = series.get(row.name);
        if (one === undefined) {
          one = new Series();
          series.set(row.name, one);
          // A row that was not among the first ones has had no request before.
          if (this.looks > 1 && this.leap !== this.looks) one.add(zero(row), this.clock - 1000);
        }
        if (this.leap === this.looks) one.seen = [];
        one.add(row, this.clock);
      }
    } else if (event === 'requests') {
      if (this.isPaused) this.dropped += data.length;
      else this.requests = [...data.reverse(), ...this.requests].slice(0, 500);
    } else if (event === 'dropped') {
      this.dropped += data.requests;
    } else if (event === 'refetch' && data.resource === 'status') {
      get('status').then(status => {
        this.status = status;
        this.note('status');
      }, () => {});
    }
    this.note(event);
  }

  /** Forgets what another run of the daemon has told. */
  forget() {
    this.samples = [];
    this.status = {};
    for (const series of Object.values(this.traffic)) series.clear();
  }

  /** @param {Live['state']} state @param {string} reason */
  set(state, reason) {
    this.state = state;
    this.reason = reason;
    this.note('state');
  }

  /** Tells the page in the next frame. @param {string} event */
  note(event) {
    if (this.changed.size === 0) {
      requestAnimationFrame(() => {
        const changed = this.changed;
        this.changed = new Set();
        this.onChange(changed);
      });
    }
    this.changed.add(event);
  }

  /** @param {'hosts' | 'backends' | 'routes'} by @param {string} name @returns {import('./types.js').Rate} */
  rate(by, name) {
    return this.traffic[by].get(name)?.rate(this.clock) ?? IDLE;
  }

  /** @param {'hosts' | 'backends' | 'routes'} by @param {string} name @returns {Traffic | null} */
  total(by, name) {
    return this.traffic[by].get(name)?.last ?? null;
  }
}

export const live = new Live();
