/** Numbers in a row that grows at its end and is cut at its beginning. Pure. */

const LEAST_ROOM = 1024;

export class GrowingArray {
  #values;
  #from = 0;
  #to = 0;

  /** `Type`: the typed array that holds the numbers, such as Uint32Array. */
  constructor(Type) {
    this.#values = new Type(LEAST_ROOM);
  }

  get length() {
    return this.#to - this.#from;
  }

  at(index) {
    return this.#values[this.#from + index];
  }

  set(index, value) {
    this.#values[this.#from + index] = value;
  }

  push(value) {
    if (this.#to === this.#values.length) this.#makeRoom();
    this.#values[this.#to++] = value;
  }

  /** Remove the first `count`. */
  shift(count) {
    this.#from += count;
  }

  clear() {
    this.#from = this.#to = 0;
  }

  /** How many are smaller than `value`; the numbers are in ascending order. */
  below(value) {
    let [low, high] = [this.#from, this.#to];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#values[middle] < value) low = middle + 1;
      else high = middle;
    }
    return low - this.#from;
  }

  /** How many are not larger than `value`; the numbers are in ascending order. */
  upTo(value) {
    let [low, high] = [this.#from, this.#to];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#values[middle] <= value) low = middle + 1;
      else high = middle;
    }
    return low - this.#from;
  }

  /** Put `value` where it belongs among numbers in ascending order; nothing when it is there. */
  insert(value) {
    const index = this.below(value);
    if (index < this.length && this.at(index) === value) return;
    this.push(value);
    this.#values.copyWithin(this.#from + index + 1, this.#from + index, this.#to - 1);
    this.set(index, value);
  }

  /** Take `value` out of numbers in ascending order; nothing when it is not there. */
  remove(value) {
    const index = this.below(value);
    if (index >= this.length || this.at(index) !== value) return;
    this.#values.copyWithin(this.#from + index, this.#from + index + 1, this.#to);
    this.#to--;
  }

  /** A new place for the numbers, unless half of the old one is free at its beginning. */
  #makeRoom() {
    const held = this.#values.subarray(this.#from, this.#to);
    if (held.length > this.#values.length / 2) {
      this.#values = new this.#values.constructor(held.length * 2);
    }
    this.#values.set(held);
    [this.#from, this.#to] = [0, held.length];
  }
}
