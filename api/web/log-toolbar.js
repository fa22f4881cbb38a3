/** What is above a log: search, follow, and how it is shown. */

import { copyButton } from "./copying.js";
import { element } from "./element.js";

const LIVE = {
  connecting: "connecting…",
  live: "live",
  lost: "connection lost",
  refused: "not available",
  ended: "complete",
};

/**
 * Listeners: `onSearch({text, isCaseSensitive})`, `onNext(1 or −1)`, `onFollow(isOn)`, `onStream(name)`,
 * `onTimes(isOn)`, `onWrap(isOn)`, `onStart()`, `onEnd()`, `onLeave()` (out of the search field); `text()` is what is
 * to be copied.
 *
 * Returns the elements {element, search, stream, download} (the last is the place for a link) and what tells the state:
 * `live(state)`, `following(isOn)`, `counted({total, dropped})`, `matched({count, isDone} | null, ordinal | null)`.
 */
export function logToolbar(on) {
  const search = element("input", {
    type: "search",
    class: "log-search",
    placeholder: "Search the log (/)",
    "aria-label": "Search the log",
    autocomplete: "off",
    spellcheck: "false",
    enterkeyhint: "search",
  });
  const matches = element("output", { class: "log-matches", "aria-live": "polite" });
  const matchCase = toggle("Aa", "Match case", false, () => searched());
  const searched = () => on.onSearch({ text: search.value, isCaseSensitive: isOn(matchCase) });
  search.addEventListener("input", searched);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") on.onNext(event.shiftKey ? -1 : 1);
    else if (event.key === "Escape") on.onLeave();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  const follow = toggle("Follow", "Stay at the end while lines come (f)", true, on.onFollow);
  const stream = element(
    "select",
    { "aria-label": "Which output", on: { change: () => on.onStream(stream.value) } },
    element("option", { value: "all", text: "all output" }),
    ["stdout", "stderr"].map((name) => element("option", { value: name, text: name })),
  );
  const download = element("span", { class: "log-download" });
  const state = element("span", { class: "log-live" });
  const lines = element("span", { class: "log-count" });
  const bar = element(
    "div",
    { class: "log-toolbar", role: "group", "aria-label": "How the log is shown" },
    element(
      "div",
      { class: "log-group log-searching" },
      search,
      matchCase,
      action("↑", "Previous line found (N)", () => on.onNext(-1)),
      action("↓", "Next line found (n)", () => on.onNext(1)),
      matches,
    ),
    element(
      "div",
      { class: "log-group" },
      follow,
      stream,
      toggle("Times", "Show when each line was printed", false, on.onTimes),
      toggle("Wrap", "Break long lines", false, on.onWrap),
      action("⤒", "To the beginning (Home)", on.onStart),
      action("⤓", "To the end (End)", on.onEnd),
      copyButton(on.text, "Copy shown"),
      download,
    ),
    element("div", { class: "log-group log-facts" }, state, lines),
  );
  return {
    element: bar,
    search,
    stream,
    download,
    live(name) {
      state.dataset.state = name;
      state.textContent = LIVE[name];
    },
    following(isFollowing) {
      follow.setAttribute("aria-pressed", String(isFollowing));
    },
    counted({ total, dropped }) {
      lines.textContent = countedText(total, dropped);
      lines.title = dropped ? "The browser keeps the newest lines only; download the log to read all of it." : "";
    },
    matched(found, ordinal) {
      matches.textContent = matchedText(found, ordinal);
    },
  };
}

function countedText(total, dropped) {
  const lines = `${total.toLocaleString("en-US")} ${total === 1 ? "line" : "lines"}`;
  return dropped ? `${lines}; the first ${dropped.toLocaleString("en-US")} are in the download only` : lines;
}

function matchedText(found, ordinal) {
  if (found === null) return "";
  const more = found.isDone ? "" : "…";
  if (!found.count) return found.isDone ? "not found" : "searching…";
  const all = found.count.toLocaleString("en-US") + more;
  if (ordinal !== null) return `${ordinal.toLocaleString("en-US")} of ${all}`;
  return `${all} ${found.count === 1 ? "line" : "lines"}`;
}

function isOn(button) {
  return button.getAttribute("aria-pressed") === "true";
}

function toggle(text, title, isPressed, onChange) {
  const button = action(text, title, () => {
    button.setAttribute("aria-pressed", String(!isOn(button)));
    onChange(isOn(button));
  });
  button.setAttribute("aria-pressed", String(isPressed));
  return button;
}

/** A button; what is shown as a mere sign is told in words. */
function action(text, title, onClick) {
  const name = text.length > 2 ? {} : { "aria-label": title };
  return element("button", { type: "button", class: "small", title, text, ...name, on: { click: onClick } });
}
