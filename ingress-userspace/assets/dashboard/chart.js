// Line charts of the last quarter of an hour, and bars of a histogram, as SVG.

import {h, setText, svg} from './dom.js';
import {clock} from './format.js';

const WIDTH = 300;
const HEIGHT = 84;

/** @typedef {{at: number, values: (number | null)[]}} Point */

/** A chart with its newest values beside its title. */
export class Chart {
  /**
   * @param {string} title
   * @param {string[]} names one for each line
   * @param {(value: number) => string} format
   */
  constructor(title, names, format) {
    this.title = title;
    this.names = names;
    this.format = format;
    this.lines = names.map((_, index) => svg('path', {class: `line line${index}`}));
    this.area = svg('path', {class: 'area'});
    this.figure = svg('svg', {viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img',
      'aria-label': title}, svg('path', {class: 'grid', d: `M0 1H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 ${HEIGHT - 1}H${WIDTH}`}),
    this.area, ...this.lines);
    this.values = names.map(() => h('strong', {}, '–'));
    this.top = h('span', {}, '');
    this.begin = h('span', {}, '');
    this.element = h('section', {class: 'card chart'},
      h('h2', {}, title),
      h('p', {class: 'legend'}, ...names.map((name, index) =>
        h('span', {class: `key key${index}`}, this.values[index], ` ${name}`))),
      this.figure, h('p', {class: 'axis'}, this.begin, this.top, h('span', {}, 'now')));
  }

  /** @param {Point[]} points the oldest first */
  draw(points) {
    const newest = points.at(-1);
    for (const [index, value] of this.values.entries()) {
      const number = newest?.values[index];
      setText(value, number === null || number === undefined ? '–' : this.format(number));
    }
    if (newest === undefined || points.length < 2) return;
    const from = points[0].at;
    const span = Math.max(1, newest.at - from);
    const highest = Math.max(...points.flatMap(point => point.values.map(value => value ?? 0)), 1e-9);
    const x = (/** @type {number} */ at) => ((at - from) / span * WIDTH).toFixed(1);
    const y = (/** @type {number} */ value) => (HEIGHT - 2 - value / highest * (HEIGHT - 6)).toFixed(1);
    for (const [index, line] of this.lines.entries()) {
      let path = '';
      let isDrawing = false;
      for (const point of points) {
        const value = point.values[index];
        if (value !== null) path += `${isDrawing ? 'L' : 'M'}${x(point.at)} ${y(value)}`;
        isDrawing = value !== null;
      }
      line.setAttribute('d', path);
      if (index === 0) {
        this.area.setAttribute('d', path.includes('M', 1) || path === '' ? ''
          : `${path}L${WIDTH} ${HEIGHT}L0 ${HEIGHT}Z`);
      }
    }
    setText(this.top, `max ${this.format(highest <= 1e-9 ? 0 : highest)}`);
    setText(this.begin, clock(new Date(from).toISOString()));
    const words = this.names.map((name, index) => `${name} ${this.values[index].textContent}`);
    this.figure.setAttribute('aria-label', `${this.title}: ${words.join(', ')}`);
  }
}

/**
 * A histogram as bars with their numbers.
 * @param {string[]} names
 * @param {number[]} counts
 */
export function bars(names, counts) {
  const most = Math.max(1, ...counts);
  return h('ul', {class: 'bars'}, ...names.map((name, index) => {
    const bar = h('span', {class: 'bar'});
    bar.style.setProperty('width', `${(counts[index] ?? 0) / most * 100}%`);
    return h('li', {}, h('span', {class: 'name'}, name), h('span', {class: 'track'}, bar),
      h('span', {class: 'value'}, (counts[index] ?? 0).toLocaleString('en')));
  }));
}
