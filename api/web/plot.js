/** What a sandbox uses over time: processor, memory and disk, each with its limit, present and highest value. */

import { element, fill } from "./element.js";
import { axisEnd, Series } from "./plot-data.js";
import { bytesText, numberText } from "./quantities.js";

const HEIGHT = 120;
const EDGE = { top: 8, right: 8, bottom: 20, left: 64 };
const LEAST_WIDTH = 160;
/** Shorter times are drawn as if they had lasted so long. */
const LEAST_MS = 60_000;
const DAY_MS = 86_400_000;

const percent = (value) => `${numberText(value, value < 10 ? 1 : 0)} %`;
const CHARTS = [
  { name: "CPU", value: "cpu_percent", total: null, isBytes: false, text: percent },
  { name: "Memory", value: "memory_used_bytes", total: "memory_total_bytes", isBytes: true, text: bytesText },
  { name: "Disk", value: "disk_used_bytes", total: "disk_total_bytes", isBytes: true, text: bytesText },
];

/**
 * Returns {element, add(timestampMs, metrics), setLimits({cpus, memoryBytes, diskBytes}), clear()}. `metrics` are those
 * of a frame of the event stream (docs/rest.md); a limit that is null is taken from them, where they have it.
 */
export function usagePlot() {
  const charts = CHARTS.map((one) => new Chart(one, (time) => pointTo(time)));
  const whole = element("div", { class: "plots" }, charts.map((chart) => chart.element));
  let drawing = null;

  function draw() {
    drawing = null;
    const times = charts[0].series.times;
    const from = times[0] ?? 0;
    const to = Math.max(times[times.length - 1] ?? 0, from + LEAST_MS);
    for (const chart of charts) chart.draw(from, to);
  }

  const drawSoon = () => {
    drawing ??= requestAnimationFrame(draw);
  };
  const pointTo = (time) => {
    for (const chart of charts) chart.point(time);
  };
  new ResizeObserver(drawSoon).observe(whole);
  return {
    element: whole,
    add(timestampMs, metrics) {
      for (const chart of charts) chart.add(timestampMs, metrics);
      drawSoon();
    },
    setLimits({ cpus = null, memoryBytes = null, diskBytes = null }) {
      [cpus === null ? null : cpus * 100, memoryBytes, diskBytes].forEach((limit, at) => {
        charts[at].limit = limit;
      });
      drawSoon();
    },
    clear() {
      for (const chart of charts) chart.clear();
      drawSoon();
    },
  };
}

class Chart {
  #kind;
  #onPoint;
  #now = element("span", { class: "plot-now" });
  #peak = element("span", { class: "plot-peak" });
  #svg;
  #marks = element("g");
  #cursor = element("g", { class: "plot-cursor" });
  #scale = null;
  #total = null;
  /** The time that is pointed to, or null. */
  #pointed = null;
  series = new Series();
  limit = null;

  /** `onPoint(time)`: the reader points to this time, or to none (null). */
  constructor(kind, onPoint) {
    this.#kind = kind;
    this.#onPoint = onPoint;
    this.#svg = element(
      "svg",
      {
        class: "plot-drawing",
        role: "img",
        tabindex: "0",
        height: HEIGHT,
        on: {
          pointermove: (event) => this.#pointAt(event),
          pointerleave: () => onPoint(null),
          blur: () => onPoint(null),
          keydown: (event) => this.#step(event),
        },
      },
      this.#marks,
      this.#cursor,
    );
    const name = element("strong", { text: kind.name });
    const head = element("figcaption", { class: "plot-head" }, name, this.#now, this.#peak);
    this.element = element("figure", { class: "plot" }, head, this.#svg);
  }

  add(time, metrics) {
    this.series.add(time, metrics[this.#kind.value] ?? null);
    this.#total = metrics[this.#kind.total] ?? this.#total;
  }

  clear() {
    this.series = new Series();
    this.#total = null;
    this.#pointed = null;
  }

  draw(from, to) {
    const width = Math.max(LEAST_WIDTH, this.element.clientWidth);
    const limit = this.limit ?? this.#total;
    this.#scale = scale(from, to, axisEnd(this.series.highest, limit, this.#kind.isBytes), width);
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.#svg.setAttribute("width", String(width));
    fill(this.#marks, this.#axes(limit, width), this.#limitLine(limit, width), this.#curves(width));
    this.#tell(limit);
    this.point(this.#pointed);
  }

  /** Show the value at a time; the latest one for null. */
  point(time) {
    this.#pointed = time;
    const { series } = this;
    const at = time === null || !this.#scale ? -1 : series.nearest(time);
    const value = at < 0 ? series.last : series.values[at];
    const when = at < 0 ? "latest" : clock(series.times[at], this.#scale.to - this.#scale.from);
    this.#now.textContent = value === null ? "–" : `${this.#kind.text(value)} ${when}`;
    if (at < 0) return fill(this.#cursor);
    const x = this.#scale.x(series.times[at]);
    const line = element("line", { x1: x, x2: x, y1: EDGE.top, y2: HEIGHT - EDGE.bottom });
    const dot = value === null ? null : element("circle", { cx: x, cy: this.#scale.y(value), r: 3 });
    return fill(this.#cursor, line, dot);
  }

  #tell(limit) {
    const { highest, last } = this.series;
    const { name, text } = this.#kind;
    const words = [highest === null ? "" : `highest ${text(highest)}`, limit === null ? "" : `limit ${text(limit)}`];
    this.#peak.textContent = words.filter(Boolean).join(" · ");
    const now = `${name}: ${last === null ? "nothing measured" : text(last)}`;
    this.#svg.setAttribute("aria-label", [now, ...words].filter(Boolean).join(", "));
  }

  #axes(limit, width) {
    const { x, y, from, to, end } = this.#scale;
    const top = limit !== null && limit <= end ? limit : end;
    const values = [0, top / 2, top].map((value) => [
      element("line", { class: "plot-grid", x1: EDGE.left, x2: width - EDGE.right, y1: y(value), y2: y(value) }),
      label(EDGE.left - 6, y(value) + 4, "end", this.#kind.text(value)),
    ]);
    const when = (time) => (from ? clock(time, to - from) : "");
    const times = [label(x(from), HEIGHT - 5, "start", when(from)), label(x(to), HEIGHT - 5, "end", when(to))];
    return [values, times];
  }

  #limitLine(limit, width) {
    if (limit === null || limit > this.#scale.end) return null;
    const y = this.#scale.y(limit);
    return element("line", { class: "plot-limit", x1: EDGE.left, x2: width - EDGE.right, y1: y, y2: y });
  }

  #curves(width) {
    const { x, y, from, to } = this.#scale;
    return this.series.lines(from, to, width).map((line) => {
      const points = line.map(([time, value]) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`);
      if (points.length > 1) return element("polyline", { class: "plot-line", points: points.join(" ") });
      return element("circle", { class: "plot-dot", cx: x(line[0][0]), cy: y(line[0][1]), r: 2 });
    });
  }

  #pointAt(event) {
    if (!this.#scale) return;
    const { left, width } = this.#svg.getBoundingClientRect();
    const [, , all] = this.#svg.getAttribute("viewBox").split(" ").map(Number);
    this.#onPoint(this.#scale.timeAt(((event.clientX - left) / width) * all));
  }

  /** The arrow keys go from point to point. */
  #step(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !this.series.times.length) return;
    event.preventDefault();
    const last = this.series.times.length - 1;
    const at = this.#pointed === null ? last + (step > 0 ? 0 : 1) : this.series.nearest(this.#pointed);
    this.#onPoint(this.series.times[Math.min(last, Math.max(0, at + step))]);
  }
}

function label(x, y, anchor, text) {
  return element("text", { class: "plot-label", x, y, "text-anchor": anchor, text });
}

/** Times and values to places on the drawing, and back. */
function scale(from, to, end, width) {
  const [wide, high] = [width - EDGE.left - EDGE.right, HEIGHT - EDGE.top - EDGE.bottom];
  return {
    from,
    to,
    end,
    x: (time) => EDGE.left + ((time - from) / (to - from)) * wide,
    y: (value) => EDGE.top + (1 - Math.min(1, value / end)) * high,
    timeAt: (x) => from + ((x - EDGE.left) / wide) * (to - from),
  };
}

/** The time of day; with the day where the plot goes over more than one. */
function clock(ms, spanMs) {
  const day = spanMs > DAY_MS ? { weekday: "short" } : {};
  const options = { ...day, hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };
  return new Date(ms).toLocaleString(undefined, options);
}
