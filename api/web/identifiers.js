/** Random keys. `crypto.randomUUID` is missing over plain http, where many of these servers are. */

const unanswered = new Map();

/** The key of a request that is told apart by `name`: the same one until `answered(name)`, however often it is tried. */
export function keyUntilAnswered(name) {
  if (!unanswered.has(name)) unanswered.set(name, randomKey());
  return unanswered.get(name);
}

export function answered(name) {
  unanswered.delete(name);
}

export function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
