/** What stands in the editor, kept while the tab is open: also over a reload, and on the way there from a task. */

const KEY = "sandbox-draft";

export function draft() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}

export function keepDraft(text) {
  try {
    sessionStorage.setItem(KEY, text);
  } catch {
    // A manifest may be larger than what a tab may store; then a reload loses it.
  }
}

export function dropDraft() {
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // Nothing was kept.
  }
}
