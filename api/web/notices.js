/** Short words about what was done, read out by screen readers and gone after a while. Failures stay until closed. */

import { element } from "./element.js";

const SHOWN_MS = 5000;

export function say(text) {
  const shown = put(text, "good");
  setTimeout(() => shown.remove(), SHOWN_MS);
}

export function complain(error) {
  const shown = put(error instanceof Error ? error.message : String(error), "bad");
  shown.append(
    " ",
    element("button", { type: "button", class: "small", text: "Close", on: { click: () => shown.remove() } }),
  );
}

function put(text, kind) {
  const shown = element("div", { class: "notice", data: { kind } }, text);
  document.querySelector(".notices").append(shown);
  return shown;
}
