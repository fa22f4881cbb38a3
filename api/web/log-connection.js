/**
 * Reads a task's log from the server until its end. A connection that is cut resumes behind the last record that was
 * handed on: nothing is lost and nothing comes twice. Knows no DOM; runs in the log's worker.
 */

import { EventParser } from "./sse.js";

/** The server sends a comment every 15 s: a connection that says nothing for three of them is none. */
const SILENCE_MS = 45_000;
const LONGEST_PAUSE_MS = 10_000;
const LONGEST_WISH_MS = 60_000;
const SLICE_MS = 12;
const LOST = "connection lost, trying again…";

const passes = (status) => status === 429 || status >= 500;

export class LogConnection {
  #address;
  #authorization;
  #onRecord;
  #onState;
  #ports;
  #stop = new AbortController();
  #cursor = null;
  #failures = 0;
  #end = null;
  #silence = null;
  #rest = null;
  #isLetGo = false;

  /**
   * `attempt`: a number, "all", or null for the latest and what follows it. `authorization`: a header's value or null.
   * `onRecord(name, body)`: each record but the end. `onState({state, status, message, end})`: `state` is one of
   * connecting, live, lost, refused, ended; `message` says why it is lost or refused, `status` is that of a refusal,
   * `end` is the end's object.
   * `ports`: {fetch, pause(ms), turn(), now()}, where `turn` lets other work of this thread go first.
   */
  constructor({ taskId, attempt, authorization }, { onRecord, onState }, ports) {
    const query = new URLSearchParams({ follow: "true", format: "sse" });
    if (attempt !== null) query.set("attempt", attempt);
    this.#address = `/api/v1/tasks/${encodeURIComponent(taskId)}/logs?${query}`;
    this.#authorization = authorization;
    this.#onRecord = onRecord;
    this.#onState = onState;
    this.#ports = ports;
  }

  /** Read until the log's end, a refusal that will not pass, or `close`. */
  async run() {
    this.#tell("connecting");
    while (!this.#stop.signal.aborted) {
      await this.#rest?.over;
      let [message, pauseMs] = [LOST, 0];
      try {
        await this.#read();
      } catch (error) {
        if (error instanceof Refused) [message, pauseMs] = [`${error.message} – trying again…`, error.pauseMs];
        if (error instanceof Refused && !passes(error.status)) {
          this.#tell("refused", { status: error.status, message: error.message });
          return;
        }
      }
      if (this.#end) {
        this.#tell("ended", { end: this.#end });
        return;
      }
      if (this.#isLetGo) {
        this.#isLetGo = false;
        continue;
      }
      this.#tell("lost", { message });
      await this.#ports.pause(pauseMs || this.#backoffMs());
    }
  }

  /** Read no more; nothing is told from now on. */
  close() {
    this.#stop.abort();
    this.wake();
  }

  /** Nobody looks: let go of the connection, of which a browser opens only six to one server, until `wake`. */
  rest() {
    if (this.#rest || this.#end) return;
    let wake;
    this.#rest = { over: new Promise((resolve) => (wake = resolve)), wake: () => wake() };
    this.#isLetGo = true;
    this.#silence?.abort();
  }

  /** Go on behind the last record. */
  wake() {
    this.#rest?.wake();
    this.#rest = null;
  }

  #tell(state, { status = null, message = "", end = null } = {}) {
    if (!this.#stop.signal.aborted) this.#onState({ state, status, message, end });
  }

  async #read() {
    const headers = { Accept: "text/event-stream" };
    if (this.#authorization) headers.Authorization = this.#authorization;
    if (this.#cursor !== null) headers["Last-Event-ID"] = this.#cursor;
    const silence = new Silence(this.#stop.signal);
    this.#silence = silence;
    try {
      const { fetch } = this.#ports;
      const response = await fetch(this.#address, { headers, cache: "no-store", signal: silence.signal });
      if (!response.ok) throw await Refused.of(response);
      this.#tell("live");
      await this.#take(response.body.getReader(), silence);
    } finally {
      silence.end();
    }
  }

  async #take(reader, silence) {
    const [parser, decoder] = [new EventParser(), new TextDecoder()];
    let since = this.#ports.now();
    while (!this.#end && !this.#stop.signal.aborted) {
      const { value, done } = await reader.read();
      if (done) return;
      silence.broken();
      this.#failures = 0;
      for (const event of parser.push(decoder.decode(value, { stream: true }))) {
        this.#hand(event);
        if (this.#ports.now() - since < SLICE_MS) continue;
        await this.#ports.turn();
        since = this.#ports.now();
        if (this.#stop.signal.aborted) return;
      }
    }
  }

  #hand({ id, name, data }) {
    try {
      const body = JSON.parse(data);
      if (name === "end") this.#end = body;
      else this.#onRecord(name, body);
    } catch (error) {
      throw new Refused(0, `record ${id} of the log cannot be shown (${error.message}); reload the page`, 0);
    }
    this.#cursor = id;
  }

  /** Twice as long each time, and not for all readers at the same moment. */
  #backoffMs() {
    const longest = Math.min(LONGEST_PAUSE_MS, 500 * 2 ** Math.min(this.#failures, 10));
    this.#failures += 1;
    return longest * (0.5 + Math.random() / 2);
  }
}

/** What the server answered instead of a log, in its own words. */
class Refused extends Error {
  constructor(status, message, pauseMs) {
    super(message);
    this.status = status;
    this.pauseMs = pauseMs;
  }

  static async of(response) {
    const body = await response.json().catch(() => ({})); // a proxy's page, say: the status is all there is
    const seconds = Number(response.headers.get("Retry-After"));
    const pauseMs = seconds > 0 ? Math.min(LONGEST_WISH_MS, seconds * 1000) : 0;
    return new Refused(response.status, body.message ?? `the server answered ${response.status}`, pauseMs);
  }
}

/** Aborts a connection that has said nothing for too long, and with `outer`. */
class Silence {
  #timer = null;
  #request = new AbortController();
  #outer;
  #abort = () => this.#request.abort();

  constructor(outer) {
    this.#outer = outer;
    outer.addEventListener("abort", this.#abort);
    if (outer.aborted) this.#abort();
    this.broken();
  }

  get signal() {
    return this.#request.signal;
  }

  broken() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#abort, SILENCE_MS);
  }

  abort() {
    this.#abort();
  }

  end() {
    clearTimeout(this.#timer);
    this.#outer.removeEventListener("abort", this.#abort);
    this.#abort();
  }
}
