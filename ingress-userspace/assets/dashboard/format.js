// Numbers and times for people.

/** Upper bounds of the daemon's duration buckets, in seconds; the last bucket has none. */
export const BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** @param {number} value */
export function count(value) {
  return value.toLocaleString('en');
}

/** A rate of a second. @param {number} value */
export function rate(value) {
  if (value === 0) return '0';
  if (value < 10) return value.toFixed(value < 0.1 ? 2 : 1);
  return count(Math.round(value));
}

/** @param {number | null} seconds */
export function duration(seconds) {
  if (seconds === null) return '–';
  if (seconds < 0.001) return `${(seconds * 1e6).toFixed(0)} µs`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(seconds < 0.1 ? 1 : 0)} ms`;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** @param {number} value */
export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(unit === 0 || value >= 100 ? 0 : 1)} ${units[unit]}`;
}

/** How long ago a time is, in words. @param {string} time */
export function ago(time) {
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  return seconds < 5 ? 'just now' : `${duration(Math.floor(seconds))} ago`;
}

/** The time of day in the browser's zone. @param {string} time */
export function clock(time) {
  return new Date(time).toLocaleTimeString('en-GB');
}

/** Time and date in UTC, for titles. @param {string} time */
export function utc(time) {
  return `${new Date(time).toISOString().replace('T', ' ').slice(0, 19)} UTC`;
}

/**
 * A quantile of counts by bucket, interpolated inside its bucket; `null` without counts.
 * @param {number[]} buckets
 * @param {number} share
 * @returns {number | null}
 */
export function quantile(buckets, share) {
  const total = buckets.reduce((sum, count) => sum + count, 0);
  if (total === 0) return null;
  let wanted = total * share;
  for (const [index, count] of buckets.entries()) {
    if (count > 0 && wanted <= count) {
      const low = index === 0 ? 0 : BOUNDS[index - 1];
      const high = BOUNDS[index] ?? BOUNDS[BOUNDS.length - 1];
      return low + (high - low) * (wanted / count);
    }
    wanted -= count;
  }
  return BOUNDS[BOUNDS.length - 1];
}

/** @param {number} number @param {string} one @param {string} [many] */
export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** @param {import('./types.js').ObjectName} object */
export function objectName(object) {
  return object.namespace ? `${object.namespace}/${object.name}` : object.name;
}
