// A table of any length: only the rows in sight are in the document.
//
// Rows have one height. Elements of rows are kept and their texts changed, so that focus and selection
// survive an update.

import {SYMBOLS, h, replace, setText} from './dom.js';

const ROW = 36;
const OVERSCAN = 8;

/**
 * @template Row
 */
export class Table {
  /**
   * @param {object} options
   * @param {string} options.label
   * @param {import('./types.js').Column<Row>[]} options.columns
   * @param {(row: Row) => string} options.key
   * @param {string} options.sort column to sort by at first
   * @param {boolean} [options.descending]
   * @param {string} options.empty why there may be no row
   * @param {(sort: string, descending: boolean) => void} [options.onSort]
   */
  constructor(options) {
    this.options = options;
    this.sort = options.sort;
    this.descending = options.descending ?? false;
    /** @type {Row[]} */
    this.rows = [];
    /** @type {Map<string, HTMLTableRowElement>} */
    this.elements = new Map();
    this.body = h('tbody');
    /** @type {HTMLTableCellElement[]} */
    this.heads = options.columns.map(column => this.head(column));
    this.empty = h('p', {class: 'empty', role: 'status'});
    const table = h('table', {},
      h('colgroup', {}, ...options.columns.map(column => {
        const element = h('col');
        element.style.setProperty('width', `${column.width}px`);
        return element;
      })),
      h('thead', {}, h('tr', {}, ...this.heads)), this.body);
    table.style.setProperty('min-width', `${options.columns.reduce((sum, column) => sum + column.width, 0)}px`);
    this.table = table;
    this.scroller = h('div', {class: 'table', tabindex: '0', role: 'region', 'aria-label': options.label,
      onscroll: () => this.schedule()}, table);
    this.element = h('div', {class: 'table-box'}, this.scroller, this.empty);
    this.isScheduled = false;
    new ResizeObserver(() => this.schedule()).observe(this.scroller);
  }

  /** @param {import('./types.js').Column<Row>} column */
  head(column) {
    const button = h('button', {type: 'button', onclick: () => {
      this.descending = this.sort === column.id ? !this.descending : column.numeric === true;
      this.sort = column.id;
      this.options.onSort?.(this.sort, this.descending);
      this.order();
      this.draw();
    }}, column.title, h('span', {class: 'arrow', 'aria-hidden': 'true'}));
    return h('th', {scope: 'col', class: column.numeric ? 'number' : null}, button);
  }

  /** Shows these rows. @param {Row[]} rows @param {string} [empty] */
  show(rows, empty = this.options.empty) {
    this.rows = rows;
    setText(this.empty, rows.length === 0 ? empty : '');
    this.order();
    this.draw();
  }

  order() {
    const column = this.options.columns.find(column => column.id === this.sort) ?? this.options.columns[0];
    const value = column.sort ?? column.text;
    const keyed = this.rows.map(row => ({row, value: value(row)}));
    const sign = this.descending ? -1 : 1;
    keyed.sort((a, b) => sign * (typeof a.value === 'number' && typeof b.value === 'number'
      ? a.value - b.value : compare(String(a.value), String(b.value))));
    this.rows = keyed.map(one => one.row);
    for (const [index, head] of this.heads.entries()) {
      const isSorted = this.options.columns[index] === column;
      if (isSorted) head.setAttribute('aria-sort', this.descending ? 'descending' : 'ascending');
      else head.removeAttribute('aria-sort');
      const arrow = head.querySelector('.arrow');
      if (arrow) setText(arrow, isSorted ? (this.descending ? '▾' : '▴') : '');
    }
  }

  schedule() {
    if (this.isScheduled) return;
    this.isScheduled = true;
    requestAnimationFrame(() => {
      this.isScheduled = false;
      this.draw();
    });
  }

  draw() {
    const height = this.scroller.clientHeight || 600;
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW) - OVERSCAN);
    const last = Math.min(this.rows.length, first + Math.ceil(height / ROW) + 2 * OVERSCAN);
    this.table.setAttribute('aria-rowcount', String(this.rows.length + 1));
    const elements = new Map();
    const wanted = [];
    for (let index = first; index < last; index += 1) {
      const row = this.rows[index];
      const key = this.options.key(row);
      const element = this.elements.get(key) ?? this.make();
      this.write(element, row);
      element.setAttribute('aria-rowindex', String(index + 2));
      elements.set(key, element);
      wanted.push(element);
    }
    this.elements = elements;
    const above = spacer(first * ROW);
    const below = spacer((this.rows.length - last) * ROW);
    const children = [...(above ? [above] : []), ...wanted, ...(below ? [below] : [])];
    const there = [...this.body.children];
    const isSame = there.length === children.length && children.every((child, index) =>
      child === there[index] || (child.className === 'spacer' && there[index].className === 'spacer'
        && child.firstElementChild?.getAttribute('height') === there[index].firstElementChild?.getAttribute('height')));
    if (!isSame) {
      const focused = document.activeElement;
      replace(this.body, ...children);
      if (focused instanceof HTMLElement && this.body.contains(focused)) focused.focus({preventScroll: true});
    }
  }

  make() {
    return h('tr', {}, ...this.options.columns.map(column => {
      const cell = h('td', {class: column.numeric ? 'number' : null});
      if (column.tone) cell.append(h('span', {'aria-hidden': 'true'}));
      cell.append(h(column.href ? 'a' : 'span'));
      return cell;
    }));
  }

  /** @param {HTMLTableRowElement} element @param {Row} row */
  write(element, row) {
    for (const [index, column] of this.options.columns.entries()) {
      const cell = element.cells[index];
      const content = /** @type {HTMLElement} */ (cell.lastElementChild);
      const text = column.text(row);
      setText(content, text);
      const hint = column.hint ? column.hint(row) : text;
      if (cell.title !== hint) cell.title = hint;
      if (column.href) {
        const href = column.href(row);
        if (href === null) content.removeAttribute('href');
        else if (content.getAttribute('href') !== href) content.setAttribute('href', href);
      }
      if (column.tone) {
        const tone = column.tone(row);
        setText(/** @type {Element} */ (cell.firstElementChild), SYMBOLS[tone]);
        const name = `${column.numeric ? 'number ' : ''}tone ${tone}`;
        if (cell.className !== name) cell.className = name;
      }
    }
  }
}

const collator = new Intl.Collator('en', {numeric: true});

/** @param {string} a @param {string} b */
function compare(a, b) {
  return collator.compare(a, b);
}

/** @param {number} height */
function spacer(height) {
  if (height <= 0) return null;
  const cell = h('td', {colspan: '99', height: String(height)});
  cell.style.setProperty('height', `${height}px`);
  return h('tr', {class: 'spacer', 'aria-hidden': 'true'}, cell);
}

/**
 * Hands rows over as a file of comma-separated values.
 * @template Row
 * @param {string} name
 * @param {import('./types.js').Column<Row>[]} columns
 * @param {Row[]} rows
 */
export function download(name, columns, rows) {
  // A leading formula sign would run in spreadsheets.
  /** @param {string} text */
  const quoted = text => `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  const lines = [columns.map(column => quoted(column.title)),
    ...rows.map(row => columns.map(column => quoted(column.text(row))))];
  const file = new Blob([lines.map(line => line.join(',')).join('\r\n')], {type: 'text/csv'});
  const link = h('a', {href: URL.createObjectURL(file), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
