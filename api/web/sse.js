/** Server-sent events out of a text that comes in pieces (the WHATWG's "event stream interpretation"; pure). */

export class EventParser {
  #rest = "";
  #id = null;
  #name = "";
  #data = [];

  /** Take the next piece; return the events that are complete: `{id, name, data}`. An `id` stays until the next one. */
  push(piece) {
    const events = [];
    const text = this.#rest + piece;
    let from = 0;
    for (;;) {
      const end = lineEnd(text, from);
      if (end === null) break;
      const event = this.#line(text.slice(from, end.at));
      if (event) events.push(event);
      from = end.next;
    }
    this.#rest = text.slice(from);
    return events;
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#name = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    return null;
  }

  #dispatch() {
    const event = this.#data.length
      ? { id: this.#id, name: this.#name || "message", data: this.#data.join("\n") }
      : null;
    this.#name = "";
    this.#data = [];
    return event;
  }
}

function lineEnd(text, from) {
  for (let at = from; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === 10) return { at, next: at + 1 };
    if (code === 13) {
      if (at + 1 === text.length) return null; // its line feed may be in the next piece
      return { at, next: text.charCodeAt(at + 1) === 10 ? at + 2 : at + 1 };
    }
  }
  return null;
}
