/** Collects checks of the page's modules; `test_web_modules.py` runs them in a browser and reads their names here. */

export const checks = [];

/** Add a check: its name is a sentence, and it fails by raising. */
export function check(name, run) {
  checks.push({ name, run });
}

/** Raise unless both are the same, as JSON tells it. */
export function equal(actual, expected) {
  const [found, wanted] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (found !== wanted) throw new Error(`found ${found?.slice(0, 2000)}, expected ${wanted?.slice(0, 2000)}`);
}

export function truly(fact, what) {
  if (!fact) throw new Error(`not so: ${what}`);
}

/** Wait until `fact()` holds; raise when it does not within 20 s. */
export async function until(fact, what) {
  const deadline = performance.now() + 20_000;
  while (!fact()) {
    if (performance.now() > deadline) throw new Error(`never so: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Numbers that look random and are the same each time. */
export function* numbers(seed = 1) {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}
