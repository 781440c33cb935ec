// Talks to the daemon: resources by GET, changes by one stream of Server-Sent Events.
//
// The stream is read by fetch in place of EventSource: a refusal has a status and a reason then.

/** The daemon refused a request. */
export class Refused extends Error {
  /** @param {number} status @param {any} body */
  constructor(status, body) {
    super(body.error ?? `status ${status}`);
    this.status = status;
    this.body = body;
  }
}

/**
 * The value of a resource.
 * @param {string} resource
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function get(resource, signal) {
  const response = await fetch(`/api/v1/${resource}`, {signal, credentials: 'same-origin'});
  const body = await response.json();
  if (!response.ok) throw new Refused(response.status, body);
  return body;
}

/**
 * Trades a token for a session.
 * @param {string} token
 */
export async function logIn(token) {
  const response = await fetch('/session', {
    method: 'POST', credentials: 'same-origin', headers: {'content-type': 'application/json'},
    body: JSON.stringify({token}),
  });
  const body = await response.json();
  if (!response.ok) throw new Refused(response.status, body);
}

/**
 * Reads events until the stream ends.
 * @param {string} query
 * @param {string | null} lastId
 * @param {AbortSignal} signal
 * @param {(event: string, data: any, id: string) => void} onEvent
 */
export async function stream(query, lastId, signal, onEvent) {
  /** @type {Record<string, string>} */
  const headers = lastId === null ? {} : {'last-event-id': lastId};
  const response = await fetch(`/api/v1/stream?${query}`, {signal, headers, credentials: 'same-origin'});
  if (!response.ok || response.body === null) throw new Refused(response.status, await response.json());
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    const parts = (rest + value).split('\n\n');
    rest = parts.pop() ?? '';
    for (const part of parts) {
      /** @type {Record<string, string>} */
      const fields = {};
      for (const line of part.split('\n')) {
        const end = line.indexOf(': ');
        if (end > 0) fields[line.slice(0, end)] = line.slice(end + 2);
      }
      if (fields.event) onEvent(fields.event, JSON.parse(fields.data), fields.id);
    }
  }
}
