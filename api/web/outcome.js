/** Why a task or an attempt ended, whose fault it was and what to do. */

import { copyable } from "./copying.js";
import { element } from "./element.js";

const WHOSE = { user: "the task's own doing", platform: "the platform's fault" };

/** An outcome of the API as a callout; null for none. */
export function outcomeShown(outcome, purged) {
  if (!outcome) return null;
  return element(
    "section",
    { class: "callout", data: { kind: kindOf(outcome) }, "aria-label": "Outcome" },
    element("h2", { text: sentence(outcome.message) }),
    element(
      "p",
      { class: "row small muted" },
      element("code", { text: outcome.reason }),
      outcome.fault && element("span", { text: WHOSE[outcome.fault] ?? outcome.fault }),
      numbersNotTold(outcome).map((text) => element("span", { text })),
    ),
    outcome.hint &&
      element("div", { class: "stack tight" }, element("h3", { text: "What to do" }), copyable(outcome.hint)),
    purged && element("p", { class: "muted small", text: "Its log and artifacts have been removed." }),
  );
}

function numbersNotTold({ message, exit_code: code, signal }) {
  const told = [code !== null && `exit code ${code}`, signal !== null && `signal ${signal}`];
  return told.filter((text) => text && !message.includes(text));
}

function kindOf(outcome) {
  if (outcome.reason === "exit_zero") return "good";
  if (outcome.reason === "cancelled") return "plain";
  return outcome.fault === "platform" ? "warn" : "bad";
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
