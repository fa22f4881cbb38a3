/** How much of a whole: words, and a bar that shows the same. */

import { element } from "./element.js";

/**
 * A bar; one that `warns` changes its colour when it is full.
 *
 * `put({part, words, value})`: `part` 0 to 1, or null for unknown; `words` stand beside the label; `value` is what a
 * screen reader says.
 */
export function bar(label, { warns = false } = {}) {
  const said = element("span", { class: "muted" });
  const fill = element("div", { class: "bar-fill" });
  const track = element("div", {
    class: "bar-track",
    role: "progressbar",
    "aria-valuemin": 0,
    "aria-valuemax": 100,
    "aria-label": label,
  });
  track.append(fill);
  const made = element(
    "div",
    { class: "bar" },
    element("div", { class: "bar-words" }, element("span", { text: label }), said),
    track,
  );
  made.put = ({ part, words, value = words }) => {
    const percent = part === null ? 0 : Math.min(100, Math.max(0, part * 100));
    fill.style.setProperty("--part", `${percent}%`);
    made.dataset.kind = warns && percent >= 99.9 ? "full" : "some";
    if (part === null) track.removeAttribute("aria-valuenow");
    else track.setAttribute("aria-valuenow", String(Math.round(percent)));
    track.setAttribute("aria-valuetext", value);
    said.textContent = words;
  };
  return made;
}
