/** The phases of a task out of its state changes (pure). */

/**
 * State changes as they come from the journal and from the stream, each once.
 *
 * Within an attempt a state is left once only, so attempt and states name a change; the snapshot at the begin of a
 * stream (`preexisting`) is none.
 */
export class Changes {
  #found = new Map();

  /** True when it was not known. */
  add(change) {
    if (change.preexisting) return false;
    const key = `${change.attempt}/${change.previous_state}/${change.new_state}`;
    if (this.#found.has(key)) return false;
    this.#found.set(key, change);
    return true;
  }

  /** Oldest first. */
  all() {
    return [...this.#found.values()].sort((a, b) =>
      a.timestamp < b.timestamp ? -1 : a.timestamp > b.timestamp ? 1 : 0,
    );
  }
}

/**
 * The tries of a task, each a list of {state, from, until} (`until` null: it lasts). A task that is pending again
 * begins the next try, which that wait belongs to.
 */
export function tries(changes, createdAt) {
  const found = [[{ state: "pending", from: createdAt, until: null }]];
  for (const change of changes) {
    const current = found.at(-1);
    const last = current.at(-1);
    if (change.new_state === last.state) continue;
    last.until = change.timestamp;
    const next = { state: change.new_state, from: change.timestamp, until: null };
    if (change.new_state === "pending") found.push([next]);
    else current.push(next);
  }
  return found;
}
