/** The rows of a log as elements. A row that stays keeps its element, so that what is selected in it stays selected. */

import { drawn, runsOf } from "./ansi.js";
import { element } from "./element.js";
import { placesIn } from "./log-search.js";
import { rowsOf, rowStarts } from "./text-columns.js";

/** Characters of a line that are shown until somebody wants all of it; of one that is not wrapped. */
const SHOWN_CHARACTERS = 4000;
const NOTHING = { runs: [], starts: [0, 0], marks: [], isCut: false };

/** The rows that a message of the log's worker holds: [{line, part}]. */
export function rowsIn({ lines, part, width }, count) {
  const rows = [];
  for (const [index, line] of lines.entries()) {
    const end = rowsOf(line.columns, width);
    for (let at = index ? 0 : part; at < end && rows.length < count; at++) rows.push({ line, part: at });
  }
  return rows;
}

/** The time of day in the reader's time zone, to the millisecond. */
export function timeOfDay(ms) {
  const at = new Date(ms);
  const two = (number) => String(number).padStart(2, "0");
  const whole = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
  return `${whole}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}

export class LogRows {
  #onWhole;
  #drawn = new Map();
  #whole = new Map();
  #look = { width: 0, pattern: null };
  #version = 0;
  element = element("div", { class: "log-rows" });

  /** `onWhole(line)`: the whole text of this line is wanted; give it to `expand`. */
  constructor(onWhole) {
    this.#onWhole = onWhole;
  }

  /** `width`: columns of a row, 0 for lines that are not wrapped. `pattern`: what to mark, a global RegExp or null. */
  look({ width, pattern }) {
    this.#look = { width, pattern };
    this.#version++;
  }

  /** Another log comes. */
  clear() {
    this.#drawn.clear();
    this.#whole.clear();
    this.element.replaceChildren();
  }

  /** Whether all of a long line is shown. */
  get isExpanded() {
    return this.#whole.size > 0;
  }

  /** Show all of a line from now on. */
  expand(line, text) {
    this.#whole.set(line, text);
    this.#version++;
  }

  /** Show exactly these rows. `current`: the number of the line that a search stands on, or null. */
  draw(rows, current) {
    const before = this.#drawn;
    const parsed = new Map();
    this.#drawn = new Map();
    for (const row of rows) {
      const key = `${row.line.number}:${row.part}`;
      const known = before.get(key);
      const isSame = known?.version === this.#version && known.text === row.line.text;
      const shown = isSame ? known : this.#shown(row, parsed);
      shown.node.classList.toggle("is-current", row.line.number === current);
      this.#drawn.set(key, shown);
    }
    this.#place([...this.#drawn.values()].map(({ node }) => node));
  }

  /** The text of the rows that are shown; rows of one line are put together. */
  get text() {
    return textOfRows(this.element.children);
  }

  #shown({ line, part }, parsed) {
    if (!parsed.has(line.number)) parsed.set(line.number, this.#parsed(line));
    const { runs, starts, marks, isCut } = parsed.get(line.number);
    const [from, to] = [starts[part] ?? Infinity, starts[part + 1] ?? Infinity];
    const data = { stream: line.stream, part, time: part ? "" : timeOfDay(line.at) };
    const node = element("div", { class: "log-row", data }, drawn(runs, from, to, marks));
    if (isCut) node.append(this.#more(line));
    return { node, text: line.text, version: this.#version };
  }

  #parsed(line) {
    const whole = this.#whole.get(line.number);
    const isWrapped = this.#look.width > 0;
    const raw = isWrapped ? line.text : (whole ?? line.text);
    const { runs, isCut } = runsOf(raw, isWrapped || whole !== undefined ? Infinity : SHOWN_CHARACTERS);
    if (!runs.length) return NOTHING;
    const text = runs.length === 1 ? runs[0].text : runs.map((run) => run.text).join("");
    const { width, pattern } = this.#look;
    const marks = pattern ? placesIn(text, pattern) : [];
    return { runs, starts: rowStarts(text, width), marks, isCut: isCut || raw.length < line.length };
  }

  #more(line) {
    return element("button", {
      type: "button",
      class: "log-more",
      tabindex: "-1",
      text: `… show all ${line.length.toLocaleString("en-US")} characters`,
      on: { click: () => this.#onWhole(line.number) },
    });
  }

  /** Put the nodes in this order, moving none that is in its place. */
  #place(nodes) {
    const wanted = new Set(nodes);
    for (const child of [...this.element.children]) if (!wanted.has(child)) child.remove();
    let next = this.element.firstElementChild;
    for (const node of nodes) {
      if (node === next) next = next.nextElementSibling;
      else this.element.insertBefore(node, next);
    }
  }
}

/** What is selected in the rows, as text; null when a selection lies in one row, which a browser copies well. */
export function selectedText(selection) {
  if (!selection.rangeCount) return null;
  const rows = selection.getRangeAt(0).cloneContents().querySelectorAll(".log-row");
  return rows.length ? textOfRows(rows) : null;
}

function textOfRows(rows) {
  let text = "";
  for (const [index, row] of [...rows].entries()) {
    if (index && row.dataset.part === "0") text += "\n";
    for (const child of row.childNodes) if (!child.classList?.contains("log-more")) text += child.textContent;
  }
  return text;
}
