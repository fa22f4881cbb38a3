/** What a search finds in a log, in slices, so that whoever runs it can do other things in between. Pure. */

import { GrowingArray } from "./growing-array.js";
import { isShown } from "./log-layout.js";

/** A RegExp that finds exactly these characters. */
export function patternOf(text, isCaseSensitive) {
  return new RegExp(text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"), isCaseSensitive ? "g" : "gi");
}

/** The offsets [from, to) at which `pattern` is in `text`, at most `most` of them. */
export function placesIn(text, pattern, most = 200) {
  const places = [];
  pattern.lastIndex = 0;
  for (let found = pattern.exec(text); found && places.length < most; found = pattern.exec(text)) {
    places.push([found.index, found.index + found[0].length]);
  }
  return places;
}

export class Search {
  #lines;
  #wanted;
  #found = new GrowingArray(Uint32Array);
  #next;

  /** `wanted`: the filter whose lines are searched; `text` is not empty. */
  constructor(lines, wanted, text, isCaseSensitive) {
    this.#lines = lines;
    this.#wanted = wanted;
    this.pattern = patternOf(text, isCaseSensitive);
    this.#next = lines.begin;
  }

  /** How many lines were found so far. */
  get count() {
    return this.#found.length;
  }

  get isDone() {
    return this.#next >= this.#lines.end;
  }

  /** Search a part: some thousand lines. */
  step() {
    this.#found.shift(this.#found.below(this.#lines.begin));
    const from = Math.max(this.#next, this.#lines.begin);
    if (from >= this.#lines.end) return;
    const { numbers, next } = this.#lines.matching(from, this.pattern);
    for (const number of numbers) {
      if (isShown(this.#lines.streamOf(number), this.#wanted)) this.#found.push(number);
    }
    this.#next = next;
    for (const number of this.#lines.unfinished) {
      if (number >= from) this.replaced(number);
    }
  }

  /** A line has another text. */
  replaced(number) {
    if (number >= this.#next || !isShown(this.#lines.streamOf(number), this.#wanted)) return;
    if (this.#lines.matches(number, this.pattern)) this.#found.insert(number);
    else this.#found.remove(number);
  }

  /**
   * The found line next to `number`, in the order `direction` (1, −1), around the ends: `{number, ordinal}`, where the
   * ordinal begins with 1; null when nothing was found. `isIncluded`: `number` itself will do.
   */
  nextTo(number, direction, isIncluded) {
    if (!this.count) return null;
    const before = this.#found.below(number);
    const isFound = before < this.count && this.#found.at(before) === number;
    let index = direction > 0 ? before + (isFound && !isIncluded ? 1 : 0) : before - (isFound && isIncluded ? 0 : 1);
    index = (index + this.count) % this.count;
    return { number: this.#found.at(index), ordinal: index + 1 };
  }
}
