/** Lines out of the records of a log (docs/rest.md), put together from the pieces in which they come. Pure. */

import { wordsOf } from "./agent-words.js";
import { STREAMS } from "./log-lines.js";

/** A line that has grown so long goes on in the next one, as in the log's text form. */
const LONGEST_LINE = 64 * 1024;
const [STDOUT, STDERR, EVENT, SYSTEM, GAP] = STREAMS.keys();
const OUTPUTS = { stdout: STDOUT, stderr: STDERR };

export class Assembly {
  #lines;
  /** By stream, the line that has no end yet: `{number, text}`. */
  #begun = new Map();
  #attempt = null;
  #instant = { text: "", ms: 0 };

  constructor(lines) {
    this.#lines = lines;
  }

  /** Take one record: the name of its event and its object. */
  take(name, body) {
    if (body.attempt !== undefined && body.attempt !== this.#attempt) {
      this.#attempt = body.attempt; // what one attempt left unfinished is not the next one's beginning
      this.#begun.clear();
    }
    const at = this.#ms(body.timestamp);
    const stream = OUTPUTS[name];
    if (stream !== undefined) this.#output(stream, at, String(body.data ?? ""));
    else if (name === "system") this.#said(SYSTEM, at, [String(body.data ?? "").replace(/\n$/, "")]);
    else if (name === "gap") this.#said(GAP, at, [`gap: ${body.message ?? "a part of the log is missing"}`]);
    else this.#said(EVENT, at, eventLines(body));
  }

  #output(stream, at, data) {
    for (let from = 0; from < data.length; ) {
      const found = data.indexOf("\n", from);
      const end = found < 0 ? data.length : found;
      this.#piece(stream, at, data.slice(from, end), found >= 0);
      from = end + 1;
    }
  }

  #piece(stream, at, piece, isEnd) {
    const begun = this.#begun.get(stream);
    const text = begun ? begun.text + piece : piece;
    const isWhole = isEnd || text.length >= LONGEST_LINE;
    const shown = lastSegment(text);
    let number = begun?.number;
    if (!begun || !this.#lines.replace(number, shown, !isWhole)) number = this.#lines.add(stream, at, shown);
    if (isWhole) this.#begun.delete(stream);
    else this.#begun.set(stream, { number, text: text.endsWith("\r") ? `${shown}\r` : shown });
  }

  #said(stream, at, texts) {
    for (const text of texts) for (const line of text.split("\n")) this.#lines.add(stream, at, line);
  }

  #ms(timestamp) {
    if (timestamp !== this.#instant.text) this.#instant = { text: timestamp, ms: Date.parse(timestamp) };
    return this.#instant.ms;
  }
}

/** What a terminal shows of a line with carriage returns: what came behind the last one that anything came behind. */
function lastSegment(text) {
  if (!text.includes("\r")) return text;
  const whole = text.replace(/\r+$/, "");
  return whole.slice(whole.lastIndexOf("\r") + 1);
}

function eventLines(body) {
  if (body.type === "state_change") return [[body.new_state, body.state_message].filter(Boolean).join(": ")];
  if (body.type === "artifact") return [`artifact ${body.artifact?.path} (${body.artifact?.size_bytes} bytes)`];
  const { seq, timestamp, stream, attempt, ...rest } = body;
  return wordsOf(body) ?? [JSON.stringify(rest)];
}
