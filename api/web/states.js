/** The states of a task, in words. tests/integration/api/test_page.py holds them against orchestrator/states.py. */

import { element } from "./element.js";

export const PHASES = ["pending", "staging", "provisioning", "ready", "running", "completing"];
export const TERMINAL = ["completed", "failed", "failed_preserved", "cancelled"];

/** What the list filters by: a word, and the states it stands for. */
export const GROUPS = [
  { name: "Waiting", states: ["pending"] },
  { name: "Preparing", states: ["staging", "provisioning", "ready"] },
  { name: "Running", states: ["running"] },
  { name: "Finishing", states: ["completing"] },
  { name: "Completed", states: ["completed"] },
  { name: "Failed", states: ["failed", "failed_preserved"] },
  { name: "Cancelled", states: ["cancelled"] },
];

const MEANING = {
  pending: "accepted; waits for a worker",
  staging: "a worker makes the workspace",
  provisioning: "the image and the container are being made",
  ready: "the sandbox is inspected; the command waits at its gate",
  running: "the command runs",
  completing: "it ended or is being stopped; artifacts and the end of the log are being stored",
  completed: "exit code 0, everything stored",
  failed: "it failed",
  failed_preserved: "it failed, and the sandbox is kept to look inside",
  cancelled: "cancelled, and the sandbox is gone",
};

export function isTerminal(state) {
  return TERMINAL.includes(state);
}

export function stateWords(state) {
  return state === "failed_preserved" ? "failed, preserved" : String(state);
}

export function stateMeaning(state) {
  return MEANING[state] ?? "";
}

/** The state as a badge; `put(state)` changes it. */
export function stateBadge(state) {
  const badge = element("span", { class: "state" });
  badge.put = (now) => {
    if (badge.dataset.state === now) return;
    badge.dataset.state = now;
    badge.textContent = stateWords(now);
    badge.title = stateMeaning(now);
  };
  badge.put(state);
  return badge;
}
