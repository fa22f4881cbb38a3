/** JSON as a tree whose branches open and close; what is closed is not made until it is opened. */

import { escaped } from "./ansi.js";
import { element } from "./element.js";
import { countText } from "./quantities.js";

const CHILDREN_AT_ONCE = 100;
const OPEN_CHILDREN = 20;
const OPEN_DEPTH = 2;
const MOST_CHARACTERS = 5000;

/** A number as it was written, which a double would not hold. */
class Written {
  constructor(text) {
    this.text = text;
  }
}

/** The tree of a JSON text. Raises `SyntaxError` for what is none, `RangeError` for one that is nested too deep. */
export function jsonTree(text) {
  return element("div", { class: "json" }, node(null, valueOf(text), 0));
}

/** The value of a JSON text. A number that a double would change is kept as it was written, where a browser tells it. */
export function valueOf(text) {
  return JSON.parse(text, (_, value, context) => {
    if (typeof value !== "number" || context?.source === undefined) return value;
    return Number.isSafeInteger(value) || !/^-?\d+$/.test(context.source) ? value : new Written(context.source);
  });
}

function node(key, value, depth) {
  const name = key === null ? null : [element("span", { class: "json-key", text: shown(JSON.stringify(key)) }), ": "];
  if (value === null || typeof value !== "object" || value instanceof Written) {
    return element("div", { class: "json-leaf" }, name, leaf(value));
  }
  return branch(name, value, depth);
}

function leaf(value) {
  if (value instanceof Written) return element("span", { class: "json-number", text: value.text });
  const kind = value === null ? "null" : typeof value;
  return element("span", { class: `json-${kind}`, text: shown(JSON.stringify(value)) });
}

function branch(name, value, depth) {
  const isList = Array.isArray(value);
  const keys = isList ? null : Object.keys(value);
  const count = isList ? value.length : keys.length;
  if (!count) return element("div", { class: "json-leaf" }, name, isList ? "[]" : "{}");
  const words = isList ? `[ ${countText(count, "item")} ]` : `{ ${countText(count, "member")} }`;
  const children = element("div", { class: "json-children" });
  const fill = (from) => {
    const to = Math.min(count, from + CHILDREN_AT_ONCE);
    for (let at = from; at < to; at++) {
      children.append(isList ? node(null, value[at], depth + 1) : node(keys[at], value[keys[at]], depth + 1));
    }
    if (to < count) children.append(more(count - to, () => fill(to)));
  };
  const made = element(
    "details",
    { open: depth === 0 || (depth < OPEN_DEPTH && count <= OPEN_CHILDREN) },
    element("summary", {}, name, element("span", { class: "json-count", text: words })),
    children,
  );
  const open = () => {
    if (made.open && !children.hasChildNodes()) fill(0);
  };
  open();
  made.addEventListener("toggle", open);
  return made;
}

function more(left, onClick) {
  const button = element("button", { type: "button", class: "small", text: `… ${countText(left, "more", "more")}` });
  button.addEventListener("click", () => {
    button.remove();
    onClick();
  });
  return button;
}

function shown(text) {
  if (text.length <= MOST_CHARACTERS) return escaped(text);
  return escaped(`${text.slice(0, MOST_CHARACTERS)}… (${countText(text.length, "character")})`);
}
