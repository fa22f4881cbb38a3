/** The points of a plot, and what is drawn of them. Pure. */

/** A sandbox is measured every 5 s: where nothing came for three times as long, nothing is known. */
const GAP_MS = 15_500;

/** Values over time, in the order of time. */
export class Series {
  times = [];
  values = [];

  /** Add a value (null: none is known). One of the same time replaces what was there. */
  add(time, value) {
    let at = this.times.length;
    while (at > 0 && this.times[at - 1] > time) at--;
    if (at > 0 && this.times[at - 1] === time) this.values[at - 1] = value;
    else {
      this.times.splice(at, 0, time);
      this.values.splice(at, 0, value);
    }
  }

  get last() {
    return this.values.findLast((value) => value !== null) ?? null;
  }

  get highest() {
    const known = this.values.filter((value) => value !== null);
    return known.length ? known.reduce((highest, value) => Math.max(highest, value)) : null;
  }

  /** The place of the point nearest to `time`; −1 when there is none. */
  nearest(time) {
    let [low, high] = [0, this.times.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.times[middle] < time) low = middle + 1;
      else high = middle;
    }
    if (low === this.times.length) return low - 1;
    return low > 0 && time - this.times[low - 1] < this.times[low] - time ? low - 1 : low;
  }

  /**
   * The lines to draw for the times [from, to] over `width` pixels, as lists of [time, value]: a new list after a gap.
   * Where a pixel has more than four points, its first, lowest, highest and last stand for them.
   */
  lines(from, to, width) {
    const step = Math.max(1, (to - from) / Math.max(1, width));
    const lines = [];
    let [line, pixel, held, before] = [null, null, [], null];
    const flush = () => {
      line?.push(...thinned(held));
      held = [];
    };
    this.times.forEach((time, at) => {
      const value = this.values[at];
      const isGap = before === null || time - before > GAP_MS || value === null;
      if (isGap) {
        flush();
        line = null;
      }
      before = value === null ? null : time;
      if (value === null) return;
      if (line === null) lines.push((line = []));
      const own = Math.floor((time - from) / step);
      if (own !== pixel) flush();
      pixel = own;
      held.push([time, value]);
    });
    flush();
    return lines;
  }
}

function thinned(points) {
  if (points.length <= 4) return points;
  const byValue = [...points].sort(([, one], [, other]) => one - other);
  const kept = new Set([points[0], byValue[0], byValue[byValue.length - 1], points[points.length - 1]]);
  return points.filter((point) => kept.has(point));
}

/** A round number that is not below `value`: 1, 2 or 5 times a power of ten; of 1024 when `isBytes`. */
export function roundUp(value, isBytes) {
  if (!(value > 0)) return 1;
  const unit = isBytes ? 1024 ** Math.floor(Math.log(value) / Math.log(1024)) : 1;
  const power = 10 ** Math.floor(Math.log10(value / unit));
  return [1, 2, 5, 10].map((step) => step * power * unit).find((round) => round >= value * (1 - 1e-9));
}

/** What the axis goes up to: the limit, unless so little of it is used that nothing would be seen. */
export function axisEnd(highest, limit, isBytes) {
  const needed = (highest ?? 0) * 1.1;
  if (limit !== null && needed >= limit / 5) return Math.max(limit * 1.05, needed);
  return roundUp(needed || limit || 1, isBytes);
}
