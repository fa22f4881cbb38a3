/**
 * Which lines are shown, and in which rows: the one place that counts rows. Pure.
 *
 * A row has a number, counted from the first line that was there when the layout was made; it stays when lines are
 * dropped at the beginning or come at the end.
 */

import { GrowingArray } from "./growing-array.js";
import { STREAMS } from "./log-lines.js";
import { rowsOf } from "./text-columns.js";

const ALL = "all";
const GAP = STREAMS.indexOf("gap");

/** Tell whether the filter `wanted` ("all", "stdout", "stderr") lets lines of `stream` (a place in STREAMS) through. */
export function isShown(stream, wanted) {
  return wanted === ALL || STREAMS[stream] === wanted || stream === GAP;
}

export class Layout {
  #lines;
  #upTo;
  #numbers = new GrowingArray(Uint32Array);
  /** For each line in `#numbers`, the row behind it. */
  #ends = new GrowingArray(Float64Array);
  #changedFrom = null;
  #dropped = 0;

  /** The first row that is kept. */
  begin = 0;

  /** `width`: columns of a row, 0 when a line is never wrapped. */
  constructor(lines, wanted, width) {
    this.#lines = lines;
    this.wanted = wanted;
    this.width = width;
    this.#upTo = lines.begin;
  }

  /** The row behind the last one. */
  get end() {
    return this.#numbers.length ? this.#ends.at(this.#numbers.length - 1) : this.begin;
  }

  /** How many lines are shown, with those that are not kept any more. */
  get count() {
    return this.#dropped + this.#numbers.length;
  }

  /** A line has another text. */
  replaced(number) {
    if (this.width > 0 && number < this.#upTo) this.#changedFrom = Math.min(this.#changedFrom ?? number, number);
  }

  /** Take in what was added to the lines and what was dropped. Everything else tells what was true then. */
  catchUp() {
    const dropped = this.#numbers.below(this.#lines.begin);
    if (dropped > 0) {
      this.begin = this.#ends.at(dropped - 1);
      this.#numbers.shift(dropped);
      this.#ends.shift(dropped);
      this.#dropped += dropped;
    }
    if (this.#changedFrom !== null) this.#countAnew(this.#changedFrom);
    this.#changedFrom = null;
    let end = this.end;
    this.#lines.each(this.#upTo, (number, stream, columns) => {
      if (!isShown(stream, this.wanted)) return;
      this.#numbers.push(number);
      this.#ends.push((end += rowsOf(columns, this.width)));
    });
    this.#upTo = this.#lines.end;
  }

  /** The line in which a row lies and which of its rows that is: `{number, part}`. There must be a row. */
  placeOf(row) {
    const index = Math.min(this.#ends.upTo(Math.max(row, this.begin)), this.#numbers.length - 1);
    return { number: this.#numbers.at(index), part: Math.max(0, row - this.#startOf(index)) };
  }

  /** The first row of a line; of the next one that is shown when it is not. */
  rowOf(number) {
    return this.#startOf(this.#numbers.below(number));
  }

  /** The numbers of the lines that lie in the rows from `row` to `row + count`, wholly or in part. */
  numbersIn(row, count) {
    const numbers = [];
    for (let index = this.#ends.upTo(row); index < this.#numbers.length; index++) {
      if (this.#startOf(index) >= row + count) break;
      numbers.push(this.#numbers.at(index));
    }
    return numbers;
  }

  #startOf(index) {
    return index > 0 ? this.#ends.at(index - 1) : this.begin;
  }

  #countAnew(from) {
    const first = this.#numbers.below(from);
    let end = this.#startOf(first);
    for (let index = first; index < this.#numbers.length; index++) {
      end += rowsOf(this.#lines.columnsOf(this.#numbers.at(index)), this.width);
      this.#ends.set(index, end);
    }
  }
}
