/**
 * The panel that shows a log while it is written: a window over lines that a worker reads, keeps and searches
 * (log-worker.js). This thread draws the rows that are seen, and nothing else.
 */

import { downloadLink } from "./downloading.js";
import { element } from "./element.js";
import { LogRows, rowsIn, selectedText } from "./log-rows.js";
import { ScrollMap } from "./log-scroll.js";
import { patternOf } from "./log-search.js";
import { logToolbar } from "./log-toolbar.js";
import { StartedWorker } from "./started-worker.js";
import { authorization, tokenWanted } from "./token.js";

const WORKER = new URL("./log-worker.js", import.meta.url).href;
/** Under the page's policy a worker starts from an address that this one approves. */
const policy = globalThis.trustedTypes?.createPolicy("sandbox-worker", {
  createScriptURL(address) {
    if (address !== WORKER) throw new TypeError(`${address} is not the log's worker`);
    return address;
  },
});

/** A hidden tab lets go of its log after so long. */
const HIDDEN_MS = 30_000;
const SEARCH_AFTER_MS = 120;
const GOING_MS = 1500;
const LEAST_COLUMNS = 20;
/** What a row's time takes, as log.css has it. */
const TIME_COLUMNS = 14;
/** Columns that are shown of a line which is not wrapped, and room for the button behind them. */
const MOST_COLUMNS = 4100;
/** Rows that are fetched before and behind those that are seen, in heights of the view. */
const MARGIN = 1;
/** Where a found line comes to stand, in heights of the view. */
const FOUND_AT = 0.3;
const NOTHING = { id: 0, stream: "all", width: 0, begin: 0, end: 0, first: 0, shown: 0, search: null };

/**
 * The log of a task. `attempt`: a number, "all", or null for the latest. `authorization`: the header's value, or null.
 * `onState({lines, live, ended})` is called when one of them changes.
 *
 * Returns {element, setAttempt(attempt), setStream("all" | "stdout" | "stderr"), destroy()}; what is destroyed is not
 * used any more.
 */
export function logView(options) {
  const panel = new LogPanel(options);
  return {
    element: panel.element,
    setAttempt: (attempt) => panel.open(attempt),
    setStream: (stream) => panel.setStream(stream),
    destroy: () => panel.destroy(),
  };
}

class LogPanel {
  #options;
  #authorization;
  #attempt;
  #worker;
  #rows;
  #toolbar;
  #viewport;
  #canvas;
  #window;
  #newer;
  #note;
  #observer;

  #message = NOTHING;
  #held = [];
  #wanted = { stream: "all", width: 0 };
  /** The first wish that the log which is open was told of: what answers an earlier one is of another log. */
  #firstId = 0;
  #asked = { id: 0, first: 0, count: 0, isEnd: true };
  #connection = { state: "connecting", message: "", end: null };
  #told = {};
  #top = 0;
  #ownScroll = 0;
  #isFollowing = true;
  #seen = 0;
  #rowHeight = 18;
  #columnWidth = 8;
  #edges = 0;
  #isWrapping = false;
  #query = { text: "", isCaseSensitive: false };
  #found = null;
  #searchTimer = null;
  #isDestroyed = false;
  #goingUntil = 0;
  #hiding = null;
  #onVisibility = () => {
    clearTimeout(this.#hiding);
    if (document.hidden) this.#hiding = setTimeout(() => this.#worker.tell({ do: "rest" }), HIDDEN_MS);
    else this.#worker.tell({ do: "wake" });
  };

  constructor(options) {
    this.#options = { onState: () => {}, ...options };
    this.#authorization = options.authorization ?? null;
    this.#rows = new LogRows((line) => this.#worker.tell({ do: "whole", line }));
    this.#build();
    this.#worker = new StartedWorker(
      () => new Worker(policy ? policy.createScriptURL(WORKER) : WORKER, { type: "module" }),
      {
        onStart: () => {
          this.open(this.#attempt);
          this.#onVisibility();
        },
        onMessage: (data) => this.#hear(data),
        onWaiting: () =>
          this.#say("A file of this page did not come, trying again… Should this stay, reload the page.", "warn"),
        onFailed: (message) => this.#say(`The log's worker has failed (${message}): reload the page.`, "bad"),
      },
    );
    document.addEventListener("selectionchange", this.#onSelection);
    document.addEventListener("visibilitychange", this.#onVisibility);
    this.#observer = new ResizeObserver(() => requestAnimationFrame(() => this.#measure()));
    this.#observer.observe(this.#viewport);
    this.#attempt = options.attempt ?? null;
    this.#worker.start();
  }

  open(attempt) {
    this.#attempt = attempt;
    this.#message = NOTHING;
    this.#held = [];
    this.#rows.clear();
    this.#found = null;
    this.#seen = 0;
    this.#isFollowing = true;
    this.#worker.tell({
      do: "open",
      taskId: this.#options.taskId,
      attempt,
      authorization: this.#authorization,
    });
    this.#worker.tell({ do: "search", ...this.#query });
    this.#offerDownload();
    this.#show({ end: true });
    this.#firstId = this.#asked.id;
  }

  setStream(stream) {
    if (stream === this.#wanted.stream) return;
    this.#wanted.stream = stream;
    this.#toolbar.stream.value = stream;
    this.#found = null;
    this.#offerDownload();
    this.#showAgain();
  }

  destroy() {
    this.#isDestroyed = true;
    clearTimeout(this.#searchTimer);
    this.#worker.end();
    this.#observer.disconnect();
    document.removeEventListener("selectionchange", this.#onSelection);
    document.removeEventListener("visibilitychange", this.#onVisibility);
    clearTimeout(this.#hiding);
    this.element.remove();
  }

  #build() {
    this.#toolbar = logToolbar({
      onSearch: (query) => this.#search(query),
      onNext: (direction) => this.#next(direction),
      onFollow: (isOn) => (isOn ? this.#goToEnd() : this.#pause()),
      onStream: (stream) => this.setStream(stream),
      onTimes: (isOn) => this.#setTimes(isOn),
      onWrap: (isOn) => this.#setWrapping(isOn),
      onStart: () => this.#goTo(this.#message.begin),
      onEnd: () => this.#goToEnd(),
      onLeave: () => this.#viewport.focus(),
      text: () => this.#rows.text,
    });
    this.#window = element("div", { class: "log-window" }, this.#rows.element);
    this.#canvas = element("div", { class: "log-canvas" }, this.#window);
    this.#viewport = element(
      "div",
      {
        class: "log-viewport",
        role: "log",
        tabindex: "0",
        "aria-live": "off", // a thousand lines a second are not to be read out; the toolbar tells how many there are
        "aria-label": `Log of task ${this.#options.taskId}`,
        on: { scroll: () => this.#onScroll(), copy: (event) => this.#onCopy(event) },
      },
      this.#canvas,
    );
    this.#viewport.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    const follow = { click: () => this.#follow() };
    this.#newer = element("button", { type: "button", class: "log-newer", hidden: true, on: follow });
    this.#note = element("div", { class: "log-note", role: "status", hidden: true });
    const body = element("div", { class: "log-body" }, this.#viewport, this.#newer);
    this.element = element("section", { class: "log", "aria-label": "Log" }, this.#toolbar.element, this.#note, body);
    this.element.addEventListener("keydown", (event) => this.#onKey(event));
  }

  // What the worker says

  #hear(data) {
    if (data.is === "rows") this.#take(data);
    else if (data.is === "connection") this.#connected(data);
    else if (data.is === "found") this.#goToFound(data);
    else if (data.is === "whole") {
      this.#rows.expand(data.line, data.text);
      this.#layOut();
    }
  }

  #take(message) {
    const { stream, width } = this.#wanted;
    const isOfEarlierWish = message.stream !== stream || message.width !== width;
    if (message.id < this.#firstId || isOfEarlierWish) return;
    if (this.#message.stream !== message.stream) this.#seen = message.shown;
    this.#message = message;
    this.#held = rowsIn(message, Math.max(this.#asked.count, 1));
    if (message.top !== null) this.#top = message.top;
    this.#layOut();
    this.#tellState();
  }

  #connected(connection) {
    this.#connection = connection;
    const { state, message, status } = connection;
    this.#toolbar.live(state);
    if (state === "lost") this.#say(message, "warn");
    else if (state === "refused") this.#say(message, "bad", () => this.#openAgain());
    else this.#say("", "");
    if (status === 401) this.#authorize(message);
    this.#tellState();
  }

  async #authorize(message) {
    if ((await tokenWanted(message, this.#authorization)) && !this.#isDestroyed) this.#openAgain();
  }

  /** There may be another token meanwhile. */
  #openAgain() {
    this.#authorization = authorization();
    this.open(this.#attempt);
  }

  #tellState() {
    const { state } = this.#connection;
    const now = { lines: this.#message.total ?? 0, live: state === "live", ended: state === "ended" };
    const isSame = Object.entries(now).every(([name, value]) => this.#told[name] === value);
    this.#told = now;
    if (!isSame) this.#options.onState(now);
  }

  /** Tell something in the panel; "" for nothing. `again`, if given, is what a button "Try again" does. */
  #say(text, kind, again = null) {
    this.#note.hidden = !text;
    this.#note.dataset.kind = kind;
    this.#note.replaceChildren(element("span", { text }));
    if (!again) return;
    this.#note.append(element("button", { type: "button", class: "small", text: "Try again", on: { click: again } }));
  }

  // What is shown

  get #viewHeight() {
    return this.#viewport.clientHeight;
  }

  get #visibleRows() {
    return Math.max(1, Math.ceil(this.#viewHeight / this.#rowHeight));
  }

  get #map() {
    return new ScrollMap(this.#message.end - this.#message.begin, this.#rowHeight, this.#viewHeight);
  }

  get #lastTop() {
    return this.#message.begin + this.#map.lastTop;
  }

  /** Ask for rows; see `place` in log-worker.js. */
  #show(place) {
    const count = Math.ceil(this.#visibleRows * (1 + 2 * MARGIN)) + 1;
    this.#asked = { id: this.#asked.id + 1, first: place.row ?? null, count, isEnd: Boolean(place.end) };
    this.#worker.tell({ do: "show", id: this.#asked.id, count, place, ...this.#wanted });
  }

  /** Ask anew after rows are counted in another way: the line on top stays there. */
  #showAgain() {
    const line = this.#held[this.#place(this.#top)]?.line.number;
    this.#show(this.#isFollowing || line === undefined ? { end: true } : { line });
  }

  /** Ask for the rows around those on the screen, unless they are there or on their way. */
  #showMore() {
    if (this.#isFollowing) {
      if (!this.#asked.isEnd) this.#show({ end: true });
      return;
    }
    const from = Math.max(this.#message.begin, Math.floor(this.#top) - this.#visibleRows * MARGIN);
    const isFar = this.#asked.first === null || Math.abs(this.#asked.first - from) >= this.#visibleRows * MARGIN * 0.5;
    if (isFar || this.#asked.isEnd) this.#show({ row: from });
  }

  /** The place of a row among the rows that are held. */
  #place(row) {
    return Math.floor(row) - this.#message.first;
  }

  /** Put everything where it belongs, given the rows that are held and the row on top. */
  #layOut() {
    const { begin, widest } = this.#message;
    if (this.#isFollowing) this.#top = this.#lastTop;
    this.#top = Math.min(Math.max(this.#top, begin), this.#lastTop);
    this.#canvas.style.setProperty("height", `${this.#map.height}px`);
    const columns = this.#isWrapping ? 0 : Math.min(widest ?? 0, this.#rows.isExpanded ? Infinity : MOST_COLUMNS);
    this.#canvas.style.setProperty("--log-columns", String(columns));
    this.#scrollToTop();
    this.#draw();
    this.#count();
    if (!this.#isFollowing) this.#showMore();
  }

  #draw() {
    const from = this.#place(this.#top);
    if (this.#held.length && !(from in this.#held)) return; // what is there stays until the rows come
    this.#rows.draw(this.#held.slice(from, from + this.#visibleRows + 1), this.#found?.line ?? null);
    const part = this.#top - Math.floor(this.#top);
    this.#rows.element.style.setProperty("transform", `translateY(${-part * this.#rowHeight}px)`);
  }

  #count() {
    const { total = 0, dropped = 0, shown, search } = this.#message;
    if (this.#isFollowing) this.#seen = shown;
    const newer = Math.max(0, shown - this.#seen);
    this.#newer.hidden = this.#isFollowing || newer === 0;
    this.#newer.textContent = `${newer.toLocaleString("en-US")} new ${newer === 1 ? "line" : "lines"} ↓`;
    this.#toolbar.following(this.#isFollowing);
    this.#toolbar.counted({ total, dropped });
    this.#toolbar.matched(search, this.#found?.ordinal ?? null);
  }

  /** Take the sizes anew: the panel, its font or the screen may have changed. */
  #measure() {
    if (this.#isDestroyed) return;
    const probe = element("div", { class: "log-row", text: "0".repeat(100) });
    this.#rows.element.append(probe);
    const range = document.createRange();
    range.selectNodeContents(probe);
    const { height } = probe.getBoundingClientRect();
    const { width } = range.getBoundingClientRect();
    const style = getComputedStyle(probe);
    const edges = ["borderLeftWidth", "paddingLeft", "paddingRight"].map((name) => parseFloat(style[name]));
    probe.remove();
    if (!height || !width) return; // the panel is not on the screen
    [this.#rowHeight, this.#columnWidth] = [height, width / 100];
    this.#edges = edges.reduce((sum, one) => sum + one, 0);
    this.element.style.setProperty("--log-view-height", `${this.#viewHeight}px`);
    this.#setWidth();
    this.#showAgain();
  }

  #setWidth() {
    const columns = Math.floor((this.#viewport.clientWidth - this.#edges) / this.#columnWidth) - this.#timeColumns;
    this.#wanted.width = this.#isWrapping ? Math.max(LEAST_COLUMNS, columns) : 0;
    this.#rows.look({ width: this.#wanted.width, pattern: this.#pattern });
  }

  get #timeColumns() {
    return this.element.classList.contains("has-times") ? TIME_COLUMNS : 0;
  }

  // What the reader does

  #follow() {
    this.#isFollowing = true;
    this.#show({ end: true });
    this.#layOut();
  }

  /** Somebody wants to see the newest lines: on a small screen they may be below it. */
  #goToEnd() {
    this.#follow();
    this.#viewport.scrollIntoView({ block: "nearest" });
  }

  #pause() {
    if (!this.#isFollowing) return;
    this.#isFollowing = false;
    this.#layOut();
  }

  /** Put a row on top, as far as there are enough below it. */
  #goTo(row) {
    this.#isFollowing = false;
    this.#top = row;
    this.#layOut();
  }

  #moveBy(rows) {
    const top = Math.min(Math.max(this.#top + rows, this.#message.begin), this.#lastTop);
    if (top >= this.#lastTop && rows > 0) this.#follow();
    else this.#goTo(top);
  }

  #scrollToTop() {
    const wanted = this.#map.scrollTopOf(this.#top - this.#message.begin);
    if (Math.abs(this.#viewport.scrollTop - wanted) >= 1) this.#viewport.scrollTop = wanted;
    this.#ownScroll = this.#viewport.scrollTop;
  }

  #onScroll() {
    const { scrollTop } = this.#viewport;
    if (Math.abs(scrollTop - this.#ownScroll) < 1) return; // ours, or to the side
    this.#ownScroll = scrollTop;
    this.#top = this.#message.begin + this.#map.topAt(scrollTop);
    this.#isFollowing = this.#top >= this.#lastTop - 0.5;
    this.#draw();
    this.#count();
    this.#showMore();
  }

  /** Leave the end at once, before new lines take the view back; and scroll by rows where the bar is too coarse. */
  #onWheel(event) {
    if (event.ctrlKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) return;
    if (event.deltaY < 0 && this.#lastTop > this.#message.begin) this.#pause();
    if (this.#map.isExact) return;
    const isAtEdge = event.deltaY < 0 ? this.#top <= this.#message.begin : this.#top >= this.#lastTop;
    if (isAtEdge) return;
    event.preventDefault();
    const pixels = [1, this.#rowHeight, this.#viewHeight][event.deltaMode] * event.deltaY;
    this.#moveBy(pixels / this.#rowHeight);
  }

  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    const isInRows = event.target === this.#viewport;
    const isGoing = performance.now() < this.#goingUntil; // "g", then a letter, goes to another page: it is not ours
    this.#goingUntil = event.key === "g" ? performance.now() + GOING_MS : 0;
    if (isGoing) return;
    const done = this.#keys[event.key] ?? (isInRows ? this.#rowKeys[event.key] : undefined);
    if (!done) return;
    event.preventDefault();
    event.stopPropagation();
    done();
  }

  #keys = {
    f: () => (this.#isFollowing ? this.#pause() : this.#goToEnd()),
    s: () => this.#toolbar.search.focus(),
    n: () => this.#next(1),
    N: () => this.#next(-1),
  };

  #rowKeys = {
    Home: () => this.#goTo(this.#message.begin),
    End: () => this.#follow(),
    PageUp: () => this.#moveBy(1 - this.#viewHeight / this.#rowHeight),
    PageDown: () => this.#moveBy(this.#viewHeight / this.#rowHeight - 1),
    ArrowUp: () => this.#moveBy(-1),
    ArrowDown: () => this.#moveBy(1),
  };

  /** What somebody selects is not to move away. */
  #onSelection = () => {
    const selection = document.getSelection();
    if (!selection.isCollapsed && this.#rows.element.contains(selection.anchorNode)) this.#pause();
  };

  #onCopy(event) {
    const text = selectedText(document.getSelection());
    if (text === null) return;
    event.preventDefault();
    event.clipboardData.setData("text/plain", text);
  }

  #setTimes(isOn) {
    this.element.classList.toggle("has-times", isOn);
    this.#setWidth();
    this.#showAgain();
    this.#draw();
  }

  #setWrapping(isOn) {
    this.#isWrapping = isOn;
    this.element.classList.toggle("is-wrapping", isOn);
    this.#setWidth();
    this.#showAgain();
  }

  // Search

  get #pattern() {
    return this.#query.text ? patternOf(this.#query.text, this.#query.isCaseSensitive) : null;
  }

  #search(query) {
    this.#query = query;
    this.#found = null;
    this.#rows.look({ width: this.#wanted.width, pattern: this.#pattern });
    this.#draw();
    clearTimeout(this.#searchTimer);
    this.#searchTimer = setTimeout(() => this.#worker.tell({ do: "search", ...query }), SEARCH_AFTER_MS);
  }

  #next(direction) {
    if (!this.#query.text) {
      this.#toolbar.search.focus();
      return;
    }
    const line = this.#found?.line ?? this.#held[Math.max(0, this.#place(this.#top))]?.line.number ?? 0;
    this.#worker.tell({ do: "next", direction, line, isIncluded: this.#found === null });
  }

  #goToFound({ line, row, ordinal }) {
    if (line === null) return;
    this.#found = { line, ordinal };
    this.#goTo(row - Math.floor(this.#visibleRows * FOUND_AT));
  }

  /** What the link downloads is what is chosen: the bytes of one stream as printed, or the text of all. */
  #offerDownload() {
    const { taskId } = this.#options;
    const { stream } = this.#wanted;
    const query = new URLSearchParams(stream === "all" ? { format: "text" } : { format: "raw", stream });
    if (this.#attempt !== null) query.set("attempt", this.#attempt);
    const path = `/api/v1/tasks/${encodeURIComponent(taskId)}/logs?${query}`;
    this.#toolbar.download.replaceChildren(
      downloadLink(path, `${taskId}.${stream === "all" ? "log" : stream}`, { names: "button small" }),
    );
  }
}
