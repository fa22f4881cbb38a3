/**
 * Markdown of untrusted programs as elements: headings, paragraphs, lists, quotes, code, tables, emphasis, links to the
 * web. HTML in it is text, and pictures are named, not loaded: to load one would tell its server who reads this.
 *
 * `parse` is pure. Every step of it goes over the text once, or once for each level of nesting, of which there are few.
 */

import { element, link } from "./element.js";

const DEEPEST = 12;
const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?=[ \t]|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])([ \t]+|$)/;
const INDENTED = /^(?: {4}|\t)/;
const UNDERLINE = /^ {0,3}(=+|-+)[ \t]*$/;
const TABLE_RULE = /^[ \t|:-]*-[ \t|:-]*$/;
const TASK = /^\[([ xX])\][ \t]+/;

/** The text as an element. */
export function markdown(text) {
  return element("div", { class: "markdown" }, parse(text).map(drawnBlock));
}

/** The blocks of the text: {kind, …}, with `inline` (see `parseInline`), `blocks` or `text` inside. */
export function parse(text) {
  return blocksOf(text.replace(/\r\n?/g, "\n").split("\n"), 0);
}

function blocksOf(lines, depth) {
  const blocks = [];
  for (let at = 0; at < lines.length; ) {
    if (!lines[at].trim()) at++;
    else {
      const [block, next] = blockAt(lines, at, depth);
      blocks.push(block);
      at = next;
    }
  }
  return blocks;
}

function blockAt(lines, at, depth) {
  const line = lines[at];
  if (FENCE.test(line)) return fenced(lines, at);
  if (HEADING.test(line)) return [heading(line), at + 1];
  if (RULE.test(line)) return [{ kind: "rule" }, at + 1];
  if (depth < DEEPEST && QUOTE.test(line)) return quote(lines, at, depth);
  if (depth < DEEPEST && ITEM.test(line)) return list(lines, at, depth);
  if (INDENTED.test(line)) return indented(lines, at);
  if (isTable(lines, at)) return table(lines, at);
  return paragraph(lines, at);
}

function fenced(lines, at) {
  const [, fence, language] = FENCE.exec(lines[at]);
  const isEnd = (line) => line.trim().length >= fence.length && line.trim() === fence[0].repeat(line.trim().length);
  let end = at + 1;
  while (end < lines.length && !isEnd(lines[end])) end++;
  return [{ kind: "code", language: language.trim(), text: lines.slice(at + 1, end).join("\n") }, end + 1];
}

function heading(line) {
  const level = HEADING.exec(line)[1].length;
  const words = line.trim().slice(level).trim();
  const end = /^#+$/.test(words) ? 0 : words.length - (/ #+$/.exec(words)?.[0].length ?? 0);
  return { kind: "heading", level, inline: parseInline(words.slice(0, end)) };
}

function quote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end++;
  const inside = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return [{ kind: "quote", blocks: blocksOf(inside, depth + 1) }, end];
}

function indented(lines, at) {
  let end = at;
  while (end < lines.length && (INDENTED.test(lines[end]) || !lines[end].trim())) end++;
  while (!lines[end - 1].trim()) end--;
  const text = lines.slice(at, end).map((line) => line.replace(INDENTED, "")).join("\n");
  return [{ kind: "code", language: "", text }, end];
}

function list(lines, at, depth) {
  const ordered = /\d/.test(ITEM.exec(lines[at])[2]);
  const isItem = (line) => ITEM.test(line) && /\d/.test(ITEM.exec(line)[2]) === ordered && !RULE.test(line);
  const items = [];
  let isLoose = false;
  let next = at;
  for (let goesOn = true; goesOn; ) {
    const [inside, end] = itemLines(lines, next);
    const behind = skipBlank(lines, end);
    goesOn = behind < lines.length && isItem(lines[behind]);
    isLoose ||= (goesOn && behind > end) || hasGap(inside);
    items.push(item(inside, depth));
    next = goesOn ? behind : end;
  }
  const start = ordered ? Number.parseInt(ITEM.exec(lines[at])[2], 10) : 1;
  return [{ kind: "list", ordered, start, isLoose, items }, next];
}

/** The lines of the item that begins at `at`, without its sign and indentation, and where it ends. */
function itemLines(lines, at) {
  const [whole, , , space] = ITEM.exec(lines[at]);
  const indent = space.length > 4 ? whole.length - space.length + 1 : Math.max(whole.length, 2);
  const inside = [lines[at].slice(Math.min(indent, whole.length))];
  let end = at + 1;
  for (; end < lines.length; end++) {
    const line = lines[end];
    const isInside = line.slice(0, indent).trim() === "" && (line.length > indent || !line.trim());
    const isLazy = Boolean(lines[end - 1].trim()) && !beginsBlock(line);
    if (!isInside && !isLazy) break;
    inside.push(isInside ? line.slice(indent) : line.trimStart());
  }
  while (inside.length > 1 && !inside[inside.length - 1].trim()) {
    inside.pop();
    end--;
  }
  return [inside, end];
}

function item(lines, depth) {
  const task = TASK.exec(lines[0]);
  const inside = task ? [lines[0].slice(task[0].length), ...lines.slice(1)] : lines;
  return { isDone: task ? task[1] !== " " : null, blocks: blocksOf(inside, depth + 1) };
}

function skipBlank(lines, from) {
  let at = from;
  while (at < lines.length && !lines[at].trim()) at++;
  return at;
}

function hasGap(lines) {
  return lines.some((line, at) => at > 0 && !line.trim() && !INDENTED.test(lines[at + 1] ?? ""));
}

function beginsBlock(line) {
  return !line.trim() || [FENCE, HEADING, RULE, QUOTE, ITEM].some((one) => one.test(line));
}

function isTable(lines, at) {
  const rule = lines[at + 1] ?? "";
  return lines[at].includes("|") && TABLE_RULE.test(rule) && cells(rule).length === cells(lines[at]).length;
}

function table(lines, at) {
  const head = cells(lines[at]);
  const aligned = cells(lines[at + 1]).map(alignment);
  let end = at + 2;
  while (end < lines.length && lines[end].trim() && !beginsBlock(lines[end])) end++;
  const rows = lines.slice(at + 2, end).map((line) => {
    const found = cells(line);
    return head.map((_, index) => parseInline(found[index] ?? ""));
  });
  return [{ kind: "table", head: head.map(parseInline), aligned, rows }, end];
}

function alignment(cell) {
  if (!cell.endsWith(":")) return "left";
  return cell.startsWith(":") ? "center" : "right";
}

/** The cells of a table's row; `\|` is a character of one. */
function cells(line) {
  const found = [""];
  for (const part of line.trim().split(/(\\\||\|)/)) {
    if (part === "|") found.push("");
    else found[found.length - 1] += part === "\\|" ? "|" : part;
  }
  const trimmed = found.map((cell) => cell.trim());
  if (trimmed[0] === "") trimmed.shift();
  if (trimmed[trimmed.length - 1] === "") trimmed.pop();
  return trimmed;
}

function paragraph(lines, at) {
  let end = at + 1;
  while (end < lines.length && !beginsBlock(lines[end]) && !UNDERLINE.test(lines[end])) end++;
  const inline = parseInline(lines.slice(at, end).map((line) => line.trimStart()).join("\n"));
  const underline = end < lines.length && UNDERLINE.exec(lines[end]);
  if (underline) return [{ kind: "heading", level: underline[1][0] === "=" ? 1 : 2, inline }, end + 1];
  return [{ kind: "paragraph", inline }, end];
}

/**
 * The parts of a text within a block: strings; {kind: "code", text}; {kind: "break"}; {kind: "strong" | "em" | "del",
 * inline}; {kind: "link", address, inline}; {kind: "image", alt, address}.
 */
export function parseInline(text, isInLink = false) {
  return new Inline(text, isInLink).parsed();
}

const SIGNS = /[\\`*_~![<\n]|https?:\/\//g;
const PUNCTUATION = /[!-/:-@[-`{-~]/;
const MARKERS = { "*": "em", _: "em", "**": "strong", __: "strong", "~~": "del" };
const AUTOLINK = /<(https?:\/\/[^\s<>]+)>/y;
const ADDRESS = /https?:\/\/[^\s<>]+/y;

class Inline {
  #text;
  #isInLink;
  #at = 0;
  /** What is open: {marker, parts}. There is at most one of each marker, so the depth is bounded. */
  #open = [{ marker: "", parts: [] }];
  #closing = null;
  #lastRun = new Map();

  constructor(text, isInLink) {
    this.#text = text;
    this.#isInLink = isInLink;
  }

  parsed() {
    const text = this.#text;
    while (this.#at < text.length) {
      SIGNS.lastIndex = this.#at;
      const found = SIGNS.exec(text);
      const index = found?.index ?? text.length;
      const plain = text.slice(this.#at, index);
      this.#add(found?.[0] === "\n" ? plain.trimEnd() : plain);
      this.#at = index;
      if (found) this.#sign(found[0]);
    }
    while (this.#open.length > 1) this.#abandon();
    return this.#open[0].parts;
  }

  #sign(sign) {
    if (sign === "\\") this.#escape();
    else if (sign === "`") this.#code();
    else if (sign === "\n") this.#lineEnd();
    else if (sign === "!" || sign === "[") this.#bracket(sign === "!");
    else if (sign === "<") this.#auto(AUTOLINK);
    else if (sign.length > 1) this.#auto(ADDRESS);
    else this.#marker(sign);
  }

  /** Take `length` characters as they are. */
  #take(length) {
    this.#add(this.#text.slice(this.#at, this.#at + length));
    this.#at += length;
  }

  #add(part) {
    const { parts } = this.#open[this.#open.length - 1];
    if (typeof part !== "string") parts.push(part);
    else if (typeof parts[parts.length - 1] === "string") parts[parts.length - 1] += part;
    else if (part) parts.push(part);
  }

  #escape() {
    const next = this.#text[this.#at + 1] ?? "";
    if (next === "\n") this.#add({ kind: "break" });
    else if (PUNCTUATION.test(next)) this.#add(next);
    else return this.#take(1);
    this.#at += 2;
  }

  #lineEnd() {
    const isBreak = this.#text.slice(Math.max(0, this.#at - 2), this.#at) === "  ";
    this.#add(isBreak ? { kind: "break" } : "\n");
    this.#at++;
  }

  #code() {
    const run = this.#runOf("`");
    const end = this.#endOfCode(run);
    if (end < 0) return this.#take(run);
    let text = this.#text.slice(this.#at + run, end).replace(/\n/g, " ");
    if (text.trim() && text.startsWith(" ") && text.endsWith(" ")) text = text.slice(1, -1);
    this.#add({ kind: "code", text });
    this.#at = end + run;
  }

  /** Where the run of `run` backticks lies that ends a code span; −1 when there is none. */
  #endOfCode(run) {
    if (this.#lastRun.size === 0) {
      for (const found of this.#text.matchAll(/`+/g)) this.#lastRun.set(found[0].length, found.index);
    }
    const from = this.#at + run;
    if ((this.#lastRun.get(run) ?? -1) < from) return -1;
    const runs = /`+/g;
    runs.lastIndex = from;
    for (let found = runs.exec(this.#text); found; found = runs.exec(this.#text)) {
      if (found[0].length === run) return found.index;
    }
    return -1;
  }

  #runOf(sign) {
    let end = this.#at;
    while (this.#text[end] === sign) end++;
    return end - this.#at;
  }

  #bracket(isImage) {
    const start = this.#at + (isImage ? 1 : 0);
    const close = this.#text[start] === "[" ? this.#closingOf(start) : -1;
    const target = close >= 0 ? targetAt(this.#text, close + 1) : null;
    if (!target || (this.#isInLink && !isImage)) return this.#take(1);
    const inside = this.#text.slice(start + 1, close);
    const { address } = target;
    if (isImage) this.#add({ kind: "image", alt: inside, address });
    else this.#add({ kind: "link", address, inline: parseInline(inside, true) });
    this.#at = target.end;
  }

  /** The place of the bracket that closes the one at `start`; −1 when none does. */
  #closingOf(start) {
    if (!this.#closing) {
      this.#closing = new Map();
      const open = [];
      for (let at = 0; at < this.#text.length; at++) {
        if (this.#text[at] === "\\") at++;
        else if (this.#text[at] === "[") open.push(at);
        else if (this.#text[at] === "]" && open.length) this.#closing.set(open.pop(), at);
      }
    }
    return this.#closing.get(start) ?? -1;
  }

  #auto(pattern) {
    pattern.lastIndex = this.#at;
    const found = this.#isInLink ? null : pattern.exec(this.#text);
    if (!found) return this.#take(1);
    const address = found[1] ?? withoutEnd(found[0]);
    this.#add({ kind: "link", address, inline: [address] });
    this.#at += found[1] === undefined ? address.length : found[0].length;
  }

  /** A run of `*`, `_` or `~`: it closes what the same run has opened, opens something, or is text. */
  #marker(sign) {
    const run = this.#runOf(sign);
    const marker = run >= 2 ? sign.repeat(2) : sign;
    const [before, after] = [this.#text[this.#at - 1] ?? " ", this.#text[this.#at + run] ?? " "];
    const isWord = (character) => !/\s/.test(character) && !PUNCTUATION.test(character);
    const inWord = sign === "_" && isWord(before) && isWord(after);
    if (!MARKERS[marker] || inWord || run > 3) return this.#take(run);
    const index = this.#open.findIndex((one) => one.marker === marker);
    if (index > 0 && !/\s/.test(before)) return this.#close(index, marker);
    if (index < 0 && !/\s/.test(after)) this.#open.push({ marker, parts: [] });
    else return this.#take(marker.length);
    this.#at += marker.length;
  }

  #close(index, marker) {
    while (this.#open.length > index + 1) this.#abandon();
    const { parts } = this.#open.pop();
    this.#add({ kind: MARKERS[marker], inline: parts });
    this.#at += marker.length;
  }

  /** What was opened last is not closed: its marker is text. */
  #abandon() {
    const { marker, parts } = this.#open.pop();
    for (const part of [marker, ...parts]) this.#add(part);
  }
}

const TARGET = new RegExp(
  "\\([ \\t]*(?:<([^<>\\n]*)>|([^\\s()<]*(?:\\([^\\s()]*\\)[^\\s()]*)*))" + // in brackets, or with pairs of them
    "(?:[ \\t]+(?:\"[^\"\\n]*\"|'[^'\\n]*'))?[ \\t]*\\)", // a title
  "y",
);

/** `(address "title")` at `at`: {address, end}; null when there is none. */
function targetAt(text, at) {
  TARGET.lastIndex = at;
  const found = TARGET.exec(text);
  return found && { address: found[1] ?? found[2], end: TARGET.lastIndex };
}

/** An address in running text, without the punctuation behind it. */
function withoutEnd(address) {
  let end = address.length;
  let unopened = address.split(")").length - address.split("(").length;
  for (; /[.,:;!?'"*_~)\]]/.test(address[end - 1]); end--) {
    if (address[end - 1] === ")" && unopened-- <= 0) break;
  }
  return address.slice(0, end);
}

// Drawing

const BLOCKS = {
  heading: ({ level, inline }) => element(`h${level}`, {}, inline.map(drawnInline)),
  paragraph: ({ inline }) => element("p", {}, inline.map(drawnInline)),
  rule: () => element("hr"),
  quote: ({ blocks }) => element("blockquote", {}, blocks.map(drawnBlock)),
  code: ({ text }) => element("pre", {}, element("code", { text })),
  list: drawnList,
  table: drawnTable,
};

const INLINES = {
  code: ({ text }) => element("code", { text }),
  break: () => element("br"),
  strong: ({ inline }) => element("strong", {}, inline.map(drawnInline)),
  em: ({ inline }) => element("em", {}, inline.map(drawnInline)),
  del: ({ inline }) => element("del", {}, inline.map(drawnInline)),
  link: drawnLink,
  image: drawnImage,
};

function drawnBlock(block) {
  return BLOCKS[block.kind](block);
}

function drawnInline(part) {
  return typeof part === "string" ? part : INLINES[part.kind](part);
}

function drawnImage({ alt, address }) {
  return element("span", { class: "markdown-image", title: address, text: `[picture: ${alt || address}]` });
}

function drawnLink({ address, inline }) {
  const made = link(address, "");
  made.title = address;
  made.append(...inline.map(drawnInline));
  return made;
}

function drawnList({ ordered, start, isLoose, items }) {
  const attributes = ordered && start !== 1 ? { start } : {};
  return element(ordered ? "ol" : "ul", attributes, items.map((one) => drawnItem(one, isLoose)));
}

function drawnItem({ isDone, blocks }, isLoose) {
  const box = isDone === null ? null : element("input", { type: "checkbox", checked: isDone, disabled: true });
  const inside = blocks.map((block) =>
    !isLoose && block.kind === "paragraph" ? block.inline.map(drawnInline) : drawnBlock(block),
  );
  return element("li", {}, box, inside);
}

function drawnTable({ head, aligned, rows }) {
  const cell = (tag, inline, at) => element(tag, { class: `align-${aligned[at]}` }, inline.map(drawnInline));
  const row = (tag, inside) => element("tr", {}, inside.map((inline, at) => cell(tag, inline, at)));
  const body = element("tbody", {}, rows.map((one) => row("td", one)));
  return element("div", { class: "scroll-x" }, element("table", {}, element("thead", {}, row("th", head)), body));
}
