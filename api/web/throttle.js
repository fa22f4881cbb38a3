/** Do it soon, but not more often than every `intervalMs`, and never twice at once. */

export class Throttle {
  #job;
  #intervalMs;
  #timer = null;
  #busy = false;
  #again = false;
  #lastAt = -Infinity;
  #stopped = false;

  /** `job`: an async function that handles its own errors. */
  constructor(intervalMs, job) {
    this.#intervalMs = intervalMs;
    this.#job = job;
  }

  ask() {
    if (this.#stopped || this.#timer !== null) return;
    if (this.#busy) {
      this.#again = true;
      return;
    }
    const wait = Math.max(0, this.#lastAt + this.#intervalMs - performance.now());
    this.#timer = setTimeout(() => this.#run(), wait);
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  async #run() {
    this.#timer = null;
    this.#busy = true;
    this.#again = false;
    try {
      await this.#job();
    } finally {
      this.#lastAt = performance.now();
      this.#busy = false;
      if (this.#again) this.ask();
    }
  }
}
