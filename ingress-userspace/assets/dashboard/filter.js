// Filters above tables. The URL holds them, so that a view can be sent to somebody else.

import {h} from './dom.js';

/**
 * Writes a filter into the URL without another entry in the history.
 * @param {string} page
 * @param {URLSearchParams} query
 */
export function remember(page, query) {
  const text = query.toString();
  history.replaceState(null, '', `#/${page}${text ? `?${text}` : ''}`);
}

/**
 * A field for text.
 * @param {string} label
 * @param {string} name
 * @param {URLSearchParams} query
 * @param {() => void} onChange
 * @param {{search?: boolean, placeholder?: string, wide?: boolean}} [options]
 */
export function textField(label, name, query, onChange, options = {}) {
  const input = h('input', {type: options.search ? 'search' : 'text', name, value: query.get(name) ?? '',
    placeholder: options.placeholder, autocomplete: 'off', spellcheck: 'false',
    oninput: () => set(query, name, input.value, onChange)});
  return h('label', {class: options.wide ? 'field wide' : 'field'}, h('span', {}, label), input);
}

/**
 * A field for one of some values.
 * @param {string} label
 * @param {string} name
 * @param {[string, string][]} choices value and title
 * @param {URLSearchParams} query
 * @param {() => void} onChange
 */
export function choiceField(label, name, choices, query, onChange) {
  const select = h('select', {name, onchange: () => set(query, name, select.value, onChange)},
    ...choices.map(([value, title]) => h('option', {value, selected: (query.get(name) ?? '') === value}, title)));
  return h('label', {class: 'field'}, h('span', {}, label), select);
}

/**
 * @param {URLSearchParams} query
 * @param {string} name
 * @param {string} value
 * @param {() => void} onChange
 */
function set(query, name, value, onChange) {
  if (value === '') query.delete(name);
  else query.set(name, value);
  onChange();
}
