/** Every attempt at a task. Choosing one shows its log, phases and artifacts. */

import { element, fill } from "./element.js";
import { bytesText } from "./quantities.js";
import { stateBadge } from "./states.js";
import { exactly, lasted } from "./times.js";

const NAMES = ["Attempt", "State", "Worker", "Began", "Ran for", "Outcome", "Most memory", "From", ""];

/** `choose(number)`. */
export function attemptsPanel(choose) {
  const body = element("tbody");
  const head = element(
    "tr",
    {},
    NAMES.map((name) => element("th", { scope: "col", text: name })),
  );
  const table = element("table", {}, element("thead", {}, head), body);
  const none = element("p", { class: "muted", text: "No worker has taken the task yet." });
  const panel = element("div", { class: "panel table-panel scroll-x" }, table);
  let shown = "";
  return {
    element: element("div", {}, none, panel),
    put(task) {
      none.hidden = task.attempts.length > 0;
      panel.hidden = !none.hidden;
      const key = JSON.stringify(task.attempts);
      if (key === shown) return; // the focus stays on its button
      shown = key;
      fill(
        body,
        task.attempts.map((one) => row(one, choose)),
      );
    },
  };
}

function row(one, choose) {
  const ran = one.started_at ? lasted(one.started_at, one.finished_at) : "–";
  const from = [one.commit && `commit ${one.commit.slice(0, 12)}`, one.image].filter(Boolean);
  return element(
    "tr",
    {},
    element("td", { text: one.attempt }),
    element("td", {}, stateBadge(one.state)),
    element("td", { text: one.worker }),
    element("td", { class: "nowrap", text: exactly(one.started_at ?? one.claimed_at) }),
    element("td", { class: "nowrap" }, ran),
    element(
      "td",
      {},
      one.outcome && element("code", { text: one.outcome.reason }),
      one.outcome && element("div", { class: "muted small", text: one.outcome.message }),
    ),
    element("td", { class: "nowrap", text: bytesText(one.usage.memory_peak_bytes) }),
    element(
      "td",
      { class: "muted small", title: one.image_digest },
      from.map((text) => element("div", { text })),
    ),
    element(
      "td",
      {},
      element("button", {
        type: "button",
        class: "small",
        text: "Show its log",
        on: { click: () => choose(one.attempt) },
      }),
    ),
  );
}
