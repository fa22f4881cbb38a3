/**
 * What stands in the editor, kept while the tab is open, also over a reload: one text for a new task, and one for each
 * task whose manifest is being changed. `from`: that task's id, or null.
 */

const KEY = "sandbox-draft";

export function draft(from) {
  try {
    return sessionStorage.getItem(keyOf(from));
  } catch {
    return null;
  }
}

export function keepDraft(from, text) {
  try {
    sessionStorage.setItem(keyOf(from), text);
  } catch {
    // A manifest may be larger than what a tab may store; then a reload loses it.
  }
}

export function dropDraft(from) {
  try {
    sessionStorage.removeItem(keyOf(from));
  } catch {
    // Nothing was kept.
  }
}

function keyOf(from) {
  return from ? `${KEY}:${from}` : KEY;
}
