/** The page's own addresses, behind the `#`: #/tasks, #/tasks/<id>, #/submit, #/fleet, #/queue, each with a query. */

export function hashOf(path, query = {}) {
  const pairs = Object.entries(query).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
  const text = new URLSearchParams(pairs.filter(([, value]) => value)).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export function taskHash(taskId, query) {
  return hashOf(["tasks", taskId], query);
}

/** The address that is shown, as {path: [...], query: URLSearchParams}. */
export function parseHash(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  return { path: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

/** Change the address without going anywhere. */
export function replaceHash(hash) {
  history.replaceState(history.state, "", hash);
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
