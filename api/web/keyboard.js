/** Keys that work anywhere on the page, unless somebody is writing or a dialog is open. */

import { dialogIsOpen, showDialog } from "./dialogs.js";
import { element } from "./element.js";

const SEQUENCE_MS = 1500;
const HELP = [
  ["g then t, s, f, q", "go to tasks, submit, fleet, queue"],
  ["/", "filter the list; search the log; write in the editor"],
  ["f, s, n, N", "in the log: follow or pause; search; next, previous match"],
  ["j, k", "next, previous task in the list"],
  ["Enter", "open it"],
  ["← →", "other tab of a task, while the tabs have the focus"],
  ["Ctrl+Enter", "submit the manifest, send the answer"],
  ["Esc", "close a dialog; leave a field"],
  ["?", "these keys"],
];

/** `keysOf()`: those of the page that is shown, {key: action}. `go(letter)`: true when it leads somewhere. */
export function listenToKeys(keysOf, go) {
  let goingUntil = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || dialogIsOpen()) return;
    const { target } = event;
    if (isWriting(target)) {
      if (event.key === "Escape" && target.matches("input, select")) target.blur();
      return;
    }
    if (event.defaultPrevented) return;
    const isGoing = performance.now() < goingUntil;
    goingUntil = 0;
    if (isGoing && go(event.key)) event.preventDefault();
    else if (event.key === "g") goingUntil = performance.now() + SEQUENCE_MS;
    else if (event.key === "?") showKeys();
    else {
      const action = keysOf()[event.key];
      if (!action) return;
      event.preventDefault();
      action();
    }
  });
}

export function showKeys() {
  const told = HELP.flatMap(([keys, what]) => [
    element("dt", {}, element("kbd", { text: keys })),
    element("dd", { text: what }),
  ]);
  return showDialog({ title: "Keys", cancel: "Close", body: [element("dl", { class: "keys" }, told)] });
}

function isWriting(target) {
  return target instanceof Element && target.matches("input:not([type=checkbox]), textarea, select, [contenteditable]");
}
