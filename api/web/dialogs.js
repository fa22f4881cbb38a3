/** Modal dialogs: a question with an answer. Esc closes one without. */

import { element } from "./element.js";

let count = 0;

/**
 * Show a dialog; resolve to what `read()` returns when it is confirmed, null when it is closed in any other way.
 *
 * `body`: elements. `confirm`, `cancel`: words on the buttons (no `confirm`: there is only one way out). `danger`: true
 * for what cannot be undone.
 */
export function showDialog({ title, body, confirm, cancel = "Cancel", danger = false, read = () => true }) {
  return new Promise((resolve) => {
    let answer = null;
    count += 1;
    const heading = element("h2", { id: `dialog-${count}`, text: title });
    const close = () => dialog.close();
    const ends = element(
      "div",
      { class: "ends" },
      element("button", { type: "button", text: cancel, on: { click: close } }),
      confirm && element("button", { type: "submit", class: danger ? "primary danger" : "primary", text: confirm }),
    );
    const form = element("form", { class: "stack" }, heading, body, ends);
    const dialog = element("dialog", { "aria-labelledby": heading.id }, form);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      answer = read();
      close();
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(answer);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function dialogIsOpen() {
  return document.querySelector("dialog[open]") !== null;
}
