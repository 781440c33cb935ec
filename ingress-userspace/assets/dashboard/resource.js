// Loads a resource again when the configuration has changed.

import {get} from './api.js';
import {live} from './live.js';

/**
 * @template Value
 */
export class Resource {
  /**
   * @param {string} path
   * @param {Value} before the value before the first answer
   * @param {() => void} onLoad
   */
  constructor(path, before, onLoad) {
    this.path = path;
    this.value = before;
    this.onLoad = onLoad;
    this.generation = -1;
    this.isLoading = false;
    this.isLoaded = false;
    this.error = '';
    this.load();
  }

  load() {
    if (this.isLoading) return;
    this.isLoading = true;
    this.generation = live.samples.at(-1)?.generation ?? -1;
    get(this.path).then(value => {
      this.value = value;
      this.isLoaded = true;
      this.error = '';
    }, error => { this.error = error.message; }).finally(() => {
      this.isLoading = false;
      this.onLoad();
    });
  }

  /** Loads again if another generation is published. */
  follow() {
    const generation = live.samples.at(-1)?.generation;
    if (generation === undefined || generation === this.generation) return;
    if (this.generation === -1) this.generation = generation;
    else this.load();
  }

  /** The reason why there is nothing. @param {string} otherwise */
  reason(otherwise) {
    if (this.error) return `The daemon did not answer: ${this.error}`;
    return this.isLoaded ? otherwise : 'Loading …';
  }
}
