/**
 * All lines of a log, kept so that two million of them fit into memory. Pure.
 *
 * A line has a number, counted from the log's beginning, that never changes. The text of several thousand lines is one
 * string: a string each would cost more than most lines are long.
 */

import { visible } from "./ansi.js";
import { columnsOf } from "./text-columns.js";

/** What a line may come from; its place in this list is what is stored. */
export const STREAMS = ["stdout", "stderr", "event", "system", "gap"];

const MOST_LINES = 2_000_000;
const MOST_CHARACTERS = 256 * 1024 * 1024;
const BLOCK_LINES = 4096;
const BLOCK_CHARACTERS = 4 * 1024 * 1024;
/** Dropped at once when there are too many: what is computed from the lines is computed anew each time. */
const DROPPED_PART = 0.1;

/** A run of lines that is full; only `columns` and, by `replace`, one text may still change. */
class Block {
  constructor(first, texts, streams, times, columns) {
    this.first = first;
    this.length = texts.length;
    this.end = first + texts.length;
    this.streams = Uint8Array.from(streams);
    this.times = Float64Array.from(times);
    this.columns = Uint32Array.from(columns);
    this.#fill(texts);
  }

  #fill(texts) {
    this.starts = new Uint32Array(texts.length + 1);
    texts.forEach((text, index) => {
      this.starts[index + 1] = this.starts[index] + text.length + 1;
    });
    this.text = texts.join("\n");
    this.isPlain = !SHOWN_OTHERWISE.test(this.text);
  }

  textAt(index) {
    return this.text.slice(this.starts[index], this.starts[index + 1] - 1);
  }

  replace(index, text) {
    const texts = Array.from({ length: this.length }, (_, at) => (at === index ? text : this.textAt(at)));
    this.#fill(texts);
  }

  /** The place of the line that the character at `offset` of the text is in. */
  indexAt(offset) {
    let [low, high] = [0, this.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.starts[middle] <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** Where one of these is in a line, the line is not shown as it is stored (`visible`). */
const SHOWN_OTHERWISE = new RegExp("[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]");

export class Lines {
  #blocks = [];
  #tail = { texts: [], streams: [], times: [], columns: [], characters: 0 };
  #unfinished = new Map();
  #characters = 0;
  #mostLines;
  #mostCharacters;

  /** The number of the first line that is kept, and the number the next one gets. */
  begin = 0;
  end = 0;
  /** Columns of the widest line so far. */
  widest = 0;
  /** Called with the number of a line whose text has changed. */
  onReplaced = () => {};

  constructor({ mostLines = MOST_LINES, mostCharacters = MOST_CHARACTERS } = {}) {
    this.#mostLines = mostLines;
    this.#mostCharacters = mostCharacters;
  }

  /** Add a line and return its number. `stream`: a place in `STREAMS`; `at`: ms since 1970. */
  add(stream, at, text) {
    const tail = this.#tail;
    tail.texts.push(text);
    tail.streams.push(stream);
    tail.times.push(at);
    tail.columns.push(this.#measured(text));
    tail.characters += text.length + 1;
    this.#characters += text.length + 1;
    if (tail.texts.length >= BLOCK_LINES || tail.characters >= BLOCK_CHARACTERS) this.#seal();
    return this.end++;
  }

  /**
   * Give a line another text; false when it is not kept any more. While `isUnfinished` it will be replaced again: its
   * text is then kept beside its block, which to write anew each time would cost too much.
   */
  replace(number, text, isUnfinished) {
    if (number < this.begin || number >= this.end) return false;
    const block = this.#block(number);
    const before = this.textOf(number);
    if (before === text && isUnfinished) return true;
    this.#characters += text.length - before.length;
    const columns = this.#measured(text);
    if (block === null) {
      const index = number - this.#tailFirst;
      this.#tail.characters += text.length - before.length;
      this.#tail.texts[index] = text;
      this.#tail.columns[index] = columns;
    } else {
      block.columns[number - block.first] = columns;
      if (isUnfinished) this.#unfinished.set(number, text);
      else {
        this.#unfinished.delete(number);
        block.replace(number - block.first, text);
      }
    }
    if (before !== text) this.onReplaced(number);
    return true;
  }

  textOf(number) {
    const block = this.#block(number);
    if (block === null) return this.#tail.texts[number - this.#tailFirst];
    return this.#unfinished.get(number) ?? block.textAt(number - block.first);
  }

  streamOf(number) {
    const block = this.#block(number);
    return block ? block.streams[number - block.first] : this.#tail.streams[number - this.#tailFirst];
  }

  timeOf(number) {
    const block = this.#block(number);
    return block ? block.times[number - block.first] : this.#tail.times[number - this.#tailFirst];
  }

  columnsOf(number) {
    const block = this.#block(number);
    return block ? block.columns[number - block.first] : this.#tail.columns[number - this.#tailFirst];
  }

  /** Call `visit(number, stream, columns)` for the lines from `from` to the end. */
  each(from, visit) {
    for (let number = Math.max(from, this.begin); number < this.end; ) {
      const block = this.#block(number);
      const [first, end] = block ? [block.first, block.end] : [this.#tailFirst, this.end];
      const { streams, columns } = block ?? this.#tail;
      for (; number < end; number++) visit(number, streams[number - first], columns[number - first]);
    }
  }

  /**
   * The lines from `from` on in which `pattern` (a global RegExp that matches no line end) finds something, as far as
   * one part of the store reaches: `{numbers, next}`, where `next` is the line to go on from.
   */
  matching(from, pattern) {
    const block = this.#block(from);
    const numbers = [];
    if (block?.isPlain) this.#matchingInBlock(block, from, pattern, numbers);
    const isSearched = Boolean(block?.isPlain);
    const next = block ? block.end : this.end;
    for (let number = from; !isSearched && number < next; number++) {
      if (this.matches(number, pattern)) numbers.push(number);
    }
    return { numbers, next };
  }

  #matchingInBlock(block, from, pattern, numbers) {
    pattern.lastIndex = block.starts[from - block.first];
    for (let found = pattern.exec(block.text); found; found = pattern.exec(block.text)) {
      const index = block.indexAt(found.index);
      numbers.push(block.first + index);
      if (index + 1 === block.length) break;
      pattern.lastIndex = block.starts[index + 1];
    }
  }

  /** Tell whether `pattern` finds something in what is shown of one line. */
  matches(number, pattern) {
    pattern.lastIndex = 0;
    return pattern.test(visible(this.textOf(number)));
  }

  /** The numbers of the lines whose block does not hold their present text. */
  get unfinished() {
    return this.#unfinished.keys();
  }

  get #tailFirst() {
    return this.end - this.#tail.texts.length;
  }

  #measured(text) {
    const columns = columnsOf(visible(text));
    this.widest = Math.max(this.widest, columns);
    return columns;
  }

  /** The block that holds a line; null for the tail. */
  #block(number) {
    if (number >= this.#tailFirst) return null;
    let [low, high] = [0, this.#blocks.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#blocks[middle].first <= number) low = middle;
      else high = middle - 1;
    }
    return this.#blocks[low];
  }

  #seal() {
    const { texts, streams, times, columns } = this.#tail;
    // Called while the last line has no number yet.
    this.#blocks.push(new Block(this.end + 1 - texts.length, texts, streams, times, columns));
    this.#tail = { texts: [], streams: [], times: [], columns: [], characters: 0 };
    const isFull = this.end + 1 - this.begin > this.#mostLines || this.#characters > this.#mostCharacters;
    if (isFull) this.#drop();
  }

  /** Forget the oldest blocks, but never the last one. */
  #drop() {
    const lines = this.#mostLines * (1 - DROPPED_PART);
    const characters = this.#mostCharacters * (1 - DROPPED_PART);
    let count = 0;
    while (count < this.#blocks.length - 1 && (this.end + 1 - this.begin > lines || this.#characters > characters)) {
      const block = this.#blocks[count++];
      this.begin = block.end;
      this.#characters -= block.text.length + 1;
    }
    this.#blocks.splice(0, count);
    for (const number of this.#unfinished.keys()) {
      if (number < this.begin) this.#unfinished.delete(number);
    }
  }
}
