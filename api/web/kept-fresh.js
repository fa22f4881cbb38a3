/** What is asked for anew whenever a task changes its state, and every few seconds for what the stream does not tell. */

import { element, fill } from "./element.js";
import { failure } from "./failure.js";
import { follow } from "./live.js";
import { Throttle } from "./throttle.js";

const CHANGED_MS = 1000;
const EVERY_MS = 5000;

/**
 * `load(signal)`: an async function that asks and shows; what it raises is shown in `trouble`, with a way to try again.
 * Returns {trouble, ask(), close()}.
 */
export function keptFresh(load) {
  const closing = new AbortController();
  const trouble = element("div");
  const throttle = new Throttle(CHANGED_MS, async () => {
    try {
      await load(closing.signal);
      fill(trouble);
    } catch (error) {
      if (error.name !== "AbortError") fill(trouble, failure(error, ask));
    }
  });
  const ask = () => throttle.ask();
  const stream = follow({ filter: "state_change", exclude_preexisting: "true" }, { onFrame: ask, onReady: ask });
  const timer = setInterval(() => document.hidden || ask(), EVERY_MS);
  ask();
  return {
    trouble,
    ask,
    close() {
      closing.abort();
      stream.close();
      throttle.stop();
      clearInterval(timer);
    },
  };
}
