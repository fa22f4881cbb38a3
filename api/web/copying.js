/** Text that can be copied with one click. */

import { element } from "./element.js";

/** A block of text with a button that copies it. */
export function copyable(text, names = "copyable") {
  return element(
    "div",
    { class: names },
    element("pre", { text }),
    copyButton(() => text),
  );
}

/** A button that copies what `text()` returns then. */
export function copyButton(text, words = "Copy") {
  const button = element("button", { type: "button", class: "small", text: words });
  button.addEventListener("click", async () => {
    const done = await copy(text());
    button.textContent = done ? "Copied" : "Select and copy it by hand";
    setTimeout(() => {
      button.textContent = words;
    }, 2000);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text); // the clipboard API is there over https and on localhost only
  }
}

function copySelected(text) {
  const field = element("textarea", { class: "only-read", value: text, readonly: true });
  const before = document.activeElement;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus();
  return done;
}
