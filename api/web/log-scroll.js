/**
 * Where a scroll bar stands for which row. Browsers draw no element higher than some ten million pixels, so beyond a
 * limit the bar stands for rows in proportion. Pure.
 */

/** Chromium's limit, 33 million device pixels, on a screen with four of them a pixel. */
const MOST_PIXELS = 8_000_000;

export class ScrollMap {
  #rows;
  #rowHeight;
  #viewHeight;

  /** Heights in pixels; `viewHeight` is that of what is seen at once. */
  constructor(rows, rowHeight, viewHeight) {
    this.#rows = rows;
    this.#rowHeight = rowHeight;
    this.#viewHeight = viewHeight;
  }

  /** The height of what is scrolled. */
  get height() {
    return Math.min(MOST_PIXELS, this.#rows * this.#rowHeight);
  }

  /** Whether a pixel of the scroll bar is a pixel of the rows. */
  get isExact() {
    return this.#rows * this.#rowHeight <= MOST_PIXELS;
  }

  /** The row on top when the last one is at the bottom; rows have fractions. */
  get lastTop() {
    return Math.max(0, this.#rows - this.#viewHeight / this.#rowHeight);
  }

  topAt(scrollTop) {
    const range = this.height - this.#viewHeight;
    return range > 0 ? (Math.min(range, Math.max(0, scrollTop)) * this.lastTop) / range : 0;
  }

  scrollTopOf(top) {
    return this.lastTop > 0 ? (top * (this.height - this.#viewHeight)) / this.lastTop : 0;
  }
}
