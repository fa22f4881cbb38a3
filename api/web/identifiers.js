/** Random keys. `crypto.randomUUID` is missing over plain http, where many of these servers are. */

export function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
