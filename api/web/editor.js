/** A text editor with line numbers, whose lines can be marked. It is as tall as its text. */

import { element, fill } from "./element.js";

const INDENT = "  ";
const FEWEST_LINES = 16;
const MOST_NUMBERED = 20000;

/** `onChange(text)`, `onSubmit()` (Ctrl+Enter). Returns {element, field, text, mark(problems), goTo(line, column)}. */
export function editor({ label, describedBy, onChange, onSubmit }) {
  const numbers = element("pre", { "aria-hidden": "true" });
  const gutter = element("div", { class: "gutter" }, numbers);
  const field = element("textarea", {
    "aria-label": label,
    "aria-describedby": describedBy,
    spellcheck: "false",
    autocapitalize: "off",
    autocomplete: "off",
    wrap: "off",
    rows: FEWEST_LINES,
  });
  const marks = element("div", { "aria-hidden": "true" });
  const page = element("div", { class: "page" }, marks, field);
  const whole = element("div", { class: "editor" }, gutter, page);
  let lines = 0;
  let leaving = false;

  function number() {
    const count = field.value.split("\n").length;
    if (count === lines) return;
    lines = count;
    field.rows = Math.max(count, FEWEST_LINES);
    const shown = Math.min(count, MOST_NUMBERED);
    numbers.textContent = Array.from({ length: shown }, (_, index) => index + 1).join("\n");
  }

  field.addEventListener("input", () => {
    number();
    onChange(field.value);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      onSubmit();
    } else if (event.key === "Escape") {
      leaving = true; // the next Tab goes to the next control: the keyboard is never trapped
      return;
    } else if (event.key === "Tab" && !leaving && !event.ctrlKey && !event.altKey) {
      event.preventDefault();
      if (event.shiftKey) outdent(field);
      else insert(field, INDENT);
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      insert(field, `\n${indentHere(field)}`);
    }
    if (event.key !== "Tab") leaving = false;
  });
  field.addEventListener("blur", () => {
    leaving = false;
  });

  return {
    element: whole,
    field,
    get text() {
      return field.value;
    },
    /** Put another text in its place; the browser's undo brings back the one before. */
    replace(text) {
      field.focus();
      field.select();
      insert(field, text);
      field.setSelectionRange(0, 0);
      number();
    },
    put(text) {
      field.value = text;
      number();
    },
    /** problems: [{line, message}]. */
    mark(problems) {
      const found = problems.filter((one) => one.line);
      fill(
        marks,
        found.map((one) => lineMark(one)),
      );
      gutter.replaceChildren(...found.map((one) => lineMark(one)), numbers);
      field.setAttribute("aria-invalid", String(problems.length > 0));
    },
    goTo(line, column) {
      const before = field.value.split("\n").slice(0, line - 1);
      const at = Math.min(
        before.join("\n").length + (line > 1 ? 1 : 0) + Math.max(0, (column ?? 1) - 1),
        field.value.length,
      );
      field.focus();
      field.setSelectionRange(at, at);
      marks.querySelector(`[data-line="${Number(line)}"]`)?.scrollIntoView({ block: "center" });
    },
  };
}

function lineMark({ line, message }) {
  return element("div", { class: "mark", title: message, data: { line }, style: { "--at": String(line) } });
}

/** As if it were typed: it can be undone, and `input` is told. */
function insert(field, text) {
  if (!document.execCommand("insertText", false, text)) {
    field.setRangeText(text, field.selectionStart, field.selectionEnd, "end");
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
}

function lineStart(field) {
  return field.value.lastIndexOf("\n", field.selectionStart - 1) + 1;
}

function indentHere(field) {
  const before = field.value.slice(lineStart(field), field.selectionStart);
  const indent = /^ */.exec(before)[0];
  return /[:|>][-+]?\s*$/.test(before) ? indent + INDENT : indent;
}

function outdent(field) {
  const start = lineStart(field);
  if (!field.value.startsWith(INDENT, start)) return;
  const caret = Math.max(start, field.selectionStart - INDENT.length);
  field.setSelectionRange(start, start + INDENT.length);
  if (!document.execCommand("delete")) insert(field, "");
  field.setSelectionRange(caret, caret);
}
