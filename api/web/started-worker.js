/** A worker that is started again, and again, while its files do not come. */

const PAUSES_MS = [200, 600, 1500, 4000, 8000];

export class StartedWorker {
  #make;
  #on;
  #worker = null;
  #timer = null;
  #failures = 0;

  /**
   * `make`: returns a Worker. `onMessage(data)`: what it says. `onStart()`: it was started, now or again; it knows
   * nothing that an earlier one was told. `onWaiting()`: its files did not come, and it will be started again.
   * `onFailed(message)`: its code has failed.
   */
  constructor(make, { onStart, onMessage, onWaiting, onFailed }) {
    this.#make = make;
    this.#on = { onStart, onMessage, onWaiting, onFailed };
  }

  start() {
    this.#worker = this.#make();
    this.#worker.onmessage = ({ data }) => {
      this.#failures = 0;
      this.#on.onMessage(data);
    };
    this.#worker.onerror = ({ message }) => {
      if (message) this.#on.onFailed(message);
      else this.#startLater(); // an event without words: it was not loaded
    };
    this.#on.onStart();
  }

  tell(message) {
    this.#worker.postMessage(message);
  }

  end() {
    clearTimeout(this.#timer);
    this.#worker.terminate();
  }

  #startLater() {
    this.#worker.terminate();
    this.#on.onWaiting();
    this.#timer = setTimeout(() => this.start(), PAUSES_MS[Math.min(this.#failures, PAUSES_MS.length - 1)]);
    this.#failures += 1;
  }
}
