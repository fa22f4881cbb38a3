/**
 * The log's worker: it reads the log, keeps it, searches it, and hands the page the rows that it shows. Everything that
 * takes longer than a moment goes in slices, so that an answer is never far.
 *
 * The page says:
 *  {do: "open", taskId, attempt, authorization}      read this log, from its beginning
 *  {do: "show", id, stream, width, count, place}     show `count` rows; `place`: {row}, {line} (its first row on top),
 *                                                    or {end: true} (the last rows, now and whenever there are more)
 *  {do: "search", text, isCaseSensitive}             "" for none
 *  {do: "next", direction, line, isIncluded}         the found line next to this one
 *  {do: "whole", line}                               a line's whole text
 * and is told:
 *  {is: "rows", …}, whenever what it shows has changed (see `View.#rows`)
 *  {is: "connection", state, status, message, end}   see `LogConnection`
 *  {is: "found", line, row, ordinal}                 the answer to "next": null when nothing was found
 *  {is: "whole", line, text}
 */

import { visible } from "./ansi.js";
import { Assembly } from "./log-assembly.js";
import { LogConnection } from "./log-connection.js";
import { Layout } from "./log-layout.js";
import { Lines, STREAMS } from "./log-lines.js";
import { Search } from "./log-search.js";
import { columnsOf } from "./text-columns.js";

const TOLD_EVERY_MS = 80;
const SLICE_MS = 12;
/** Characters of a line that are handed over unless the whole line is asked for: control sequences count, too. */
const HANDED_CHARACTERS = 16 * 1024;

const turns = new MessageChannel();
const waiting = [];
turns.port1.onmessage = () => waiting.shift()();

/** Let the messages that have come go first. */
function turn() {
  return new Promise((resolve) => {
    waiting.push(resolve);
    turns.port2.postMessage(null);
  });
}

const ports = {
  fetch: (address, options) => fetch(address, options),
  pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  now: () => performance.now(),
  turn,
};

/** One log and what the page shows of it. */
class View {
  #lines = new Lines();
  #layout = new Layout(this.#lines, "all", 0);
  #search = null;
  #query = null;
  #wanted = { id: 0, stream: "all", width: 0, count: 0, place: { end: true } };
  #connection;
  #timer = null;
  #isSearching = false;
  #isClosed = false;

  constructor(log) {
    const assembly = new Assembly(this.#lines);
    this.#lines.onReplaced = (number) => {
      this.#layout.replaced(number);
      this.#search?.replaced(number);
    };
    const onRecord = (name, body) => {
      assembly.take(name, body);
      this.#changed();
    };
    const onState = (state) => {
      this.#tell(); // who hears of the end has all lines
      postMessage({ is: "connection", ...state });
    };
    this.#connection = new LogConnection(log, { onRecord, onState }, ports);
    this.#connection.run();
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#connection.close();
  }

  rest() {
    this.#connection.rest();
  }

  wake() {
    this.#connection.wake();
  }

  show(wanted) {
    const { stream, width } = wanted;
    const isOther = stream !== this.#wanted.stream;
    if (isOther || width !== this.#wanted.width) this.#layout = new Layout(this.#lines, stream, width);
    this.#wanted = wanted;
    if (isOther && this.#search) this.search(this.#query);
    this.#tell();
    if (wanted.place.line !== undefined) this.#wanted.place = { row: this.#layout.rowOf(wanted.place.line) };
  }

  search(query) {
    const { text, isCaseSensitive } = query;
    this.#query = query;
    this.#search = text ? new Search(this.#lines, this.#wanted.stream, text, isCaseSensitive) : null;
    this.#tell();
    this.#work();
  }

  next({ direction, line, isIncluded }) {
    const found = this.#search?.nextTo(line, direction, isIncluded) ?? null;
    this.#layout.catchUp();
    postMessage({
      is: "found",
      line: found?.number ?? null,
      row: found && this.#layout.rowOf(found.number) + this.#partOfFirst(found.number),
      ordinal: found?.ordinal ?? null,
    });
  }

  whole({ line }) {
    if (line >= this.#lines.begin) postMessage({ is: "whole", line, text: this.#lines.textOf(line) });
  }

  /** The row, within a wrapped line, in which what is searched begins. */
  #partOfFirst(number) {
    const { width } = this.#layout;
    if (!width) return 0;
    const text = visible(this.#lines.textOf(number));
    this.#search.pattern.lastIndex = 0;
    const found = this.#search.pattern.exec(text);
    return found ? Math.floor(columnsOf(text.slice(0, found.index)) / width) : 0;
  }

  #changed() {
    this.#timer ??= setTimeout(() => this.#tell(), TOLD_EVERY_MS);
    if (this.#search) this.#work();
  }

  #tell() {
    clearTimeout(this.#timer);
    this.#timer = null;
    if (!this.#isClosed) postMessage(this.#rows());
  }

  /**
   * `lines`: [{number, text, length, columns, stream, at}], of which the first is shown from its row `part` on, which
   * is the row `first` of all; rows go from `begin` to `end`. `top` is the row to be on top when a line was asked for.
   * `total` lines have come, `dropped` of them are not kept any more; the filter has let `shown` through. `widest`: in
   * columns. `search`: {count, isDone}. The rest is as it was asked for.
   */
  #rows() {
    const { id, stream, width, count, place } = this.#wanted;
    this.#layout.catchUp();
    const { begin, end } = this.#layout;
    const top = place.line === undefined ? null : this.#layout.rowOf(place.line);
    const wished = place.end ? end - count : (top ?? place.row);
    const first = Math.max(begin, Math.min(Math.floor(wished), end - count));
    const numbers = this.#layout.numbersIn(first, count);
    return {
      is: "rows",
      id,
      stream,
      width,
      begin,
      end,
      first,
      top,
      part: numbers.length ? this.#layout.placeOf(first).part : 0,
      lines: numbers.map((number) => this.#line(number)),
      total: this.#lines.end,
      dropped: this.#lines.begin,
      shown: this.#layout.count,
      widest: this.#lines.widest,
      search: this.#search && { count: this.#search.count, isDone: this.#search.isDone },
    };
  }

  #line(number) {
    const text = this.#lines.textOf(number);
    return {
      number,
      text: this.#layout.width ? text : text.slice(0, HANDED_CHARACTERS),
      length: text.length,
      columns: this.#lines.columnsOf(number),
      stream: STREAMS[this.#lines.streamOf(number)],
      at: this.#lines.timeOf(number),
    };
  }

  /** Search on until all is searched; one at a time. */
  async #work() {
    if (this.#isSearching) return;
    this.#isSearching = true;
    while (this.#search && !this.#search.isDone && !this.#isClosed) {
      const until = ports.now() + SLICE_MS;
      while (!this.#search.isDone && ports.now() < until) this.#search.step();
      this.#timer ??= setTimeout(() => this.#tell(), TOLD_EVERY_MS);
      await turn();
    }
    this.#isSearching = false;
  }
}

let view = null;

self.onmessage = ({ data }) => {
  if (data.do === "open") {
    view?.close();
    view = new View(data);
  } else view?.[data.do](data);
};
