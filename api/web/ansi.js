/**
 * Output of untrusted programs, made fit to be shown: colours are kept, every other escape sequence is dropped, and
 * what could repaint or reorder the page is written out. Nothing of it ever becomes anything but text.
 */

import { columnsOf } from "./text-columns.js";

const TAB_COLUMNS = 8;
/** A line with more changes of colour goes on without colours: each costs an element. */
const MOST_RUNS = 200;

/*
 * In this order: a control sequence (CSI) with its parameters and final character; a string (OSC with its hyperlinks
 * and titles, DCS, SOS, PM, APC) with its end; any other escape; control characters, line separators, bidi overrides.
 * A string that does not end in its line hides nothing: its beginning alone is dropped. Each alternative stops at the
 * next ESC, so that a line of nothing but beginnings costs no more than its length.
 */
const SPECIAL = new RegExp(
  "\\x1b\\[([0-?]*)[ -/]*([@-~])|\\x1b[\\]PX^_][^\\x07\\x1b\\x9c]*(?:\\x07|\\x1b\\\\|\\x9c)|\\x1b[ -/]*[0-~]?" +
    "|[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]",
  "g",
);

/** No colour and no emphasis. A style is never changed, only replaced. */
const PLAIN = Object.freeze({});

const FLAGS = { 1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "inverse", 9: "strike" };
const ENDS = { 22: ["bold", "dim"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 29: ["strike"] };

/** The text of a line as it is shown, without its colours. */
export function visible(line) {
  const parts = [];
  scan(line, (text) => parts.push(text), null);
  return parts.length === 1 ? parts[0] : parts.join("");
}

/**
 * The line in runs of one style: `{runs: [{text, style}], isCut}`. At most `limit` characters are shown; `isCut` tells
 * whether there are more. All runs together are the beginning of `visible(line)`.
 */
export function runsOf(line, limit = Infinity) {
  const runs = [];
  let [style, left, isCut] = [PLAIN, limit, false];
  const add = (text) => {
    if (text.length > left) isCut = true;
    const shown = text.length > left ? text.slice(0, whole(text, left)) : text;
    left -= shown.length;
    const last = runs[runs.length - 1];
    if (last && (last.style === style || runs.length >= MOST_RUNS)) {
      if (last.style !== style) last.style = PLAIN;
      last.text += shown;
    } else if (shown) runs.push({ text: shown, style });
    return !isCut;
  };
  scan(line, add, (parameters) => {
    style = styled(style, parameters);
  });
  return { runs, isCut };
}

/** The last place up to `end` that leaves no surrogate pair cut in two. */
function whole(text, end) {
  const code = text.charCodeAt(end - 1);
  return end > 0 && code >= 0xd800 && code < 0xdc00 ? end - 1 : end;
}

/** Hand the shown text of `line` to `onText`, which returns false to stop, and its colour changes to `onColour`. */
function scan(line, onText, onColour) {
  SPECIAL.lastIndex = 0;
  let [from, column] = [0, 0];
  for (let found = SPECIAL.exec(line); found; found = SPECIAL.exec(line)) {
    const before = line.slice(from, found.index);
    from = SPECIAL.lastIndex;
    let text = before;
    if (found[0] === "\t") {
      column += columnsOf(before);
      text += " ".repeat(TAB_COLUMNS - (column % TAB_COLUMNS));
      column = 0; // behind a tab stop, as at the line's beginning
    } else {
      text += writtenOut(found[0]);
      column += columnsOf(text);
    }
    if (text && onText(text) === false) return;
    if (found[2] === "m" && onColour) onColour(found[1]);
  }
  const rest = line.slice(from);
  if (rest) onText(rest);
}

/** A character that is not shown as it is, in characters that are; an escape sequence as nothing. */
function writtenOut(found) {
  const code = found.charCodeAt(0);
  if (code === 0x1b) return "";
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return code < 0x100 ? `\\x${code.toString(16)}` : `\\u${code.toString(16)}`;
}

/** Any text of one line with its control and bidi override characters written out; escape sequences stay to be seen. */
export function escaped(text) {
  return text.replace(UNSHOWN, (found) => (found === "\x1b" ? "\u241b" : writtenOut(found)));
}

const UNSHOWN = new RegExp("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]", "g");

/** The style after the parameters of a "select graphic rendition" sequence. */
function styled(before, parameters) {
  if (!/^[\d;:]*$/.test(parameters)) return before; // private: `\x1b[>4;1m` is no colour
  const numbers = parameters.split(";");
  let style = before;
  for (let index = 0; index < numbers.length; index++) {
    const [code, ...below] = numbers[index].split(":").map(Number);
    if (code === 38 || code === 48) {
      const [colour, used] = below.length ? [extendedWithColons(below), 0] : extended(numbers, index + 1);
      index += used;
      if (colour !== null) style = { ...style, [code === 38 ? "foreground" : "background"]: colour };
    } else style = simple(style, code, below);
  }
  return style;
}

function simple(style, code, below) {
  if (code === 0) return PLAIN;
  if (code === 4 && below[0] === 0) return without(style, ["underline"]);
  if (code === 21) return { ...style, underline: true };
  if (FLAGS[code]) return { ...style, [FLAGS[code]]: true };
  if (ENDS[code]) return without(style, ENDS[code]);
  if (code === 39) return without(style, ["foreground"]);
  if (code === 49) return without(style, ["background"]);
  if (code >= 30 && code <= 37) return { ...style, foreground: code - 30 };
  if (code >= 40 && code <= 47) return { ...style, background: code - 40 };
  if (code >= 90 && code <= 97) return { ...style, foreground: code - 82 };
  if (code >= 100 && code <= 107) return { ...style, background: code - 92 };
  return style;
}

function without(style, names) {
  const rest = { ...style };
  for (const name of names) delete rest[name];
  return rest;
}

/** `38;5;n` and `38;2;r;g;b`: the colour (null for none that is known), and how many parameters it took. */
function extended(numbers, from) {
  const [kind, ...rest] = numbers.slice(from, from + 4).map(Number);
  if (kind === 5) return [indexed(rest[0]), 2];
  if (kind === 2) return [mixed(rest), 4];
  return [null, 0];
}

/** `38:5:n`, `38:2:r:g:b` and `38:2:space:r:g:b`. */
function extendedWithColons([kind, ...rest]) {
  if (kind === 5) return indexed(rest[0]);
  return kind === 2 ? mixed(rest.length > 3 ? rest.slice(1, 4) : rest) : null;
}

/** One of the 256 colours: 0 to 15 stay numbers, which the page's style gives a colour. */
function indexed(number) {
  if (!(number >= 0 && number <= 255)) return null;
  if (number < 16) return number;
  if (number >= 232) return mixed(Array(3).fill(8 + 10 * (number - 232)));
  const steps = [Math.floor((number - 16) / 36), Math.floor((number - 16) / 6) % 6, (number - 16) % 6];
  return mixed(steps.map((step) => (step ? 55 + 40 * step : 0)));
}

function mixed(channels) {
  if (channels.length !== 3 || !channels.every((one) => one >= 0 && one <= 255)) return null;
  return `#${channels.map((one) => Math.round(one).toString(16).padStart(2, "0")).join("")}`;
}

/**
 * Runs as nodes: the characters [from, to) of all runs together. `marks` are offsets [from, to) of what a search has
 * found, in ascending order, none over another.
 */
export function drawn(runs, from = 0, to = Infinity, marks = []) {
  const fragment = document.createDocumentFragment();
  let start = 0;
  for (const { text, style } of runs) {
    const end = start + text.length;
    const [first, last] = [Math.max(from, start), Math.min(to, end)];
    if (first < last) drawRun(fragment, text.slice(first - start, last - start), style, first, marks);
    start = end;
  }
  return fragment;
}

function drawRun(parent, text, style, offset, marks) {
  let at = 0;
  const add = (end, isMarked) => {
    if (end > at) parent.append(piece(text.slice(at, end), style, isMarked));
    at = Math.max(at, end);
  };
  for (const [from, to] of marks) {
    if (to <= offset || from >= offset + text.length) continue;
    add(Math.max(0, from - offset), false);
    add(Math.min(text.length, to - offset), true);
  }
  add(text.length, false);
}

function piece(text, style, isMarked) {
  const classes = classesOf(style);
  if (!classes.length && !isMarked) return document.createTextNode(text);
  const span = document.createElement(isMarked ? "mark" : "span");
  span.textContent = text;
  if (classes.length) span.className = classes.join(" ");
  const [foreground, background] = colours(style);
  if (typeof foreground === "string" && foreground[0] === "#") span.style.setProperty("--ansi-foreground", foreground);
  if (typeof background === "string" && background[0] === "#") span.style.setProperty("--ansi-background", background);
  return span;
}

/** Foreground and background as shown: numbers, `#rrggbb`, names of the page's own colours, or undefined. */
function colours({ foreground, background, inverse }) {
  if (!inverse) return [foreground, background];
  return [background ?? (foreground === undefined ? "surface" : undefined), foreground ?? "text"];
}

function classesOf(style) {
  if (style === PLAIN) return [];
  const found = ["bold", "dim", "italic", "underline", "strike"].filter((name) => style[name]);
  const [foreground, background] = colours(style);
  if (foreground !== undefined) found.push(`fg${suffix(foreground)}`);
  if (background !== undefined) found.push(`bg${suffix(background)}`);
  return found.map((name) => `ansi-${name}`);
}

function suffix(colour) {
  return typeof colour === "string" && colour[0] === "#" ? "" : `-${colour}`;
}
