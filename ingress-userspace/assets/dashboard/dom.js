// Elements. Text from the cluster becomes text nodes here and nowhere else becomes anything: there is no
// innerHTML in these files, and the Content-Security-Policy would refuse it.

const SVG = 'http://www.w3.org/2000/svg';

/**
 * @typedef {string | number | Node | null | undefined | false} Child
 * @typedef {{[name: string]: string | number | boolean | null | undefined | EventListener}} Props
 */

/**
 * Makes an element. Properties that begin with `on` are listeners, others are attributes; `null` and
 * `false` leave one out.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Props} [props]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  fill(element, props, children);
  return element;
}

/**
 * Makes an SVG element.
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Props} [props]
 * @param {...Child} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export function svg(tag, props = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  fill(element, props, children);
  return element;
}

/**
 * @param {Element} element
 * @param {Props} props
 * @param {Child[]} children
 */
function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  append(element, children);
}

/**
 * @param {Element} element
 * @param {Child[]} children
 */
function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/**
 * Puts other children into an element.
 * @param {Element} element
 * @param {...Child} children
 */
export function replace(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/**
 * Sets the text of an element if it differs: nothing is painted otherwise.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * A status as symbol and word: colour is never the only sign.
 * @param {import('./types.js').Tone} tone
 * @param {string} text
 */
export function badge(tone, text) {
  return h('span', {class: `badge ${tone}`}, h('span', {'aria-hidden': 'true'}, SYMBOLS[tone]), text);
}

/** @type {{[tone in import('./types.js').Tone]: string}} */
export const SYMBOLS = {ok: '✓ ', warn: '! ', bad: '✕ ', muted: '– ', plain: ''};

/**
 * A command with a button that copies it.
 * @param {string} command
 */
export function command(command) {
  const button = h('button', {
    class: 'copy', type: 'button', 'aria-label': `Copy: ${command}`,
    onclick: () => {
      navigator.clipboard.writeText(command).then(() => setText(button, 'Copied'), () => setText(button, 'Failed'));
      setTimeout(() => setText(button, 'Copy'), 1500);
    },
  }, 'Copy');
  return h('div', {class: 'command'}, h('code', {tabindex: '0'}, command), button);
}

/**
 * A card with a heading.
 * @param {string} title
 * @param {...Child} children
 */
export function card(title, ...children) {
  return h('section', {class: 'card'}, h('h2', {}, title), ...children);
}

/**
 * A list of names and values.
 * @param {[string, Child][]} pairs
 */
export function facts(pairs) {
  return h('dl', {class: 'facts'}, ...pairs.map(([name, value]) =>
    h('div', {}, h('dt', {}, name), h('dd', {}, value))));
}

/**
 * The reason why something is empty.
 * @param {string} text
 */
export function empty(text) {
  return h('p', {class: 'empty'}, text);
}
