/** Times and durations that go on counting. Instants are RFC 3339 texts; the server's clock is the one that counts. */

import { element } from "./element.js";
import { durationText, wholeDurationText } from "./quantities.js";

const SKEW_THAT_COUNTS_MS = 2000;
let skewMs = 0;

/** Take note of the server's clock: the `Date` header of an answer, which has whole seconds. */
export function noteServerTime(header) {
  const at = Date.parse(header ?? "");
  if (Number.isNaN(at)) return;
  const found = at + 500 - Date.now();
  skewMs = Math.abs(found) > SKEW_THAT_COUNTS_MS ? found : 0;
}

/** Milliseconds since the epoch by the server's clock. */
export function now() {
  return Date.now() + skewMs;
}

export function secondsBetween(from, until) {
  return Math.max(0, ((until ? Date.parse(until) : now()) - Date.parse(from)) / 1000);
}

/** "5 min ago", and exactly when one points at it. */
export function age(instant) {
  return element("time", {
    datetime: instant,
    title: exactly(instant),
    data: { ticks: "age" },
    text: ageText(instant),
  });
}

/** How long it took, or has taken so far when `until` is null. */
export function lasted(from, until) {
  const seconds = secondsBetween(from, until);
  const text = until ? durationText(seconds) : wholeDurationText(seconds);
  const title = until ? `${exactly(from)} – ${exactly(until)}` : `since ${exactly(from)}`;
  return element("time", { datetime: from, title, data: until ? {} : { ticks: "lasts" }, text });
}

/** An instant in the reader's own time zone, to the second. */
export function exactly(instant) {
  if (!instant) return "–";
  return new Date(instant).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

function ageText(instant) {
  const seconds = secondsBetween(instant, null);
  return seconds < 3 ? "just now" : `${coarse(seconds)} ago`;
}

function coarse(seconds) {
  for (const [size, name] of [
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
  ]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${name}`;
  }
  return `${Math.floor(seconds)} s`;
}

function tick() {
  if (document.hidden) return;
  for (const one of document.querySelectorAll("time[data-ticks]")) {
    const text =
      one.dataset.ticks === "age" ? ageText(one.dateTime) : wholeDurationText(secondsBetween(one.dateTime, null));
    if (one.textContent !== text) one.textContent = text;
  }
}

setInterval(tick, 1000);
