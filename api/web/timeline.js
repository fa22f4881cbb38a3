/** How long each phase of a task took, and which one it is in. */

import { element, fill } from "./element.js";
import { PHASES, isTerminal, stateMeaning, stateWords } from "./states.js";
import { lasted, secondsBetween } from "./times.js";

const MOST_SHARE = 20;

/** `put(segments)`: those of one try (phases.js). */
export function timeline() {
  const list = element("ol", { class: "timeline", "aria-label": "Phases" });
  list.put = (segments) => fill(list, steps(segments));
  return list;
}

function steps(segments) {
  const byState = new Map(segments.map((one) => [one.state, one]));
  const last = segments.at(-1);
  const total = Math.max(1, secondsBetween(segments[0].from, isTerminal(last.state) ? last.from : null));
  const phases = PHASES.map((state) => phase(state, byState.get(state), last, total));
  return isTerminal(last.state) ? [...phases, ending(segments[0].from, last)] : phases;
}

function phase(state, segment, last, total) {
  if (!segment) {
    const words = isTerminal(last.state) ? "not reached" : "";
    return step(state, { when: "later" }, stateWords(state), words);
  }
  const share = 1 + (MOST_SHARE * secondsBetween(segment.from, segment.until)) / total;
  const isNow = segment === last;
  const shown = step(state, { when: isNow ? "now" : "past" }, stateWords(state), lasted(segment.from, segment.until));
  shown.style.setProperty("--share", String(share));
  if (isNow) shown.setAttribute("aria-current", "step");
  return shown;
}

function ending(from, last) {
  return step(last.state, { when: "past" }, stateWords(last.state), ["after ", lasted(from, last.from)]);
}

function step(state, data, words, how) {
  return element(
    "li",
    { data: { state, ...data }, title: stateMeaning(state) },
    element("div", { class: "phase", text: words }),
    element("div", { class: "lasted" }, how),
  );
}
