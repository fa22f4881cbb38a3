/**
 * The event stream, read for as long as somebody wants it: it resumes where it was cut, so nothing is lost and nothing
 * comes twice, and it says how the connection is.
 */

import { EventParser } from "./sse.js";
import { addressOf, errorOf } from "./server.js";
import { authorization, tokenWanted } from "./token.js";

const HEARTBEAT_MS = 10000;
const SILENCE_MS = 3 * HEARTBEAT_MS;
const HIDDEN_MS = 30000;
/** A hidden tab lets go of its stream after so long: a browser opens only six connections to one server. */
const BACKOFF_MS = [300, 600, 1200, 2500, 5000, 8000];

const streams = new Set();
const listeners = new Set();

/** Call the listener with {state, message} at every change. `state`: none, connecting, live, lost or refused. */
export function onConnection(listener) {
  listeners.add(listener);
  listener(connection());
}

/** Do not wait for the next try. */
export function tryNow() {
  for (const one of streams) one.hurry();
}

/**
 * Follow the stream. `query`: its parameters. `onFrame(frame)`: each frame, heartbeats left out. `onReady()`: what was
 * there before has been told, and all that comes from now on will be; called after every connect. Returns {close}.
 */
export function follow(query, { onFrame, onReady = () => {} }) {
  const stream = new Stream(query, onFrame, onReady);
  streams.add(stream);
  stream.run();
  return {
    close() {
      stream.close();
      streams.delete(stream);
      told();
    },
  };
}

class Stream {
  state = "connecting";
  message = "";
  #query;
  #onFrame;
  #onReady;
  #cursor = null;
  #closed = false;
  #request = null;
  #wake = () => {};
  #failures = 0;
  #silence = null;
  #ready = false;

  constructor(query, onFrame, onReady) {
    this.#query = { heartbeat_interval_ms: HEARTBEAT_MS, ...query };
    this.#onFrame = onFrame;
    this.#onReady = onReady;
  }

  async run() {
    while (!this.#closed) {
      await this.#visible();
      if (this.#closed) return;
      const used = authorization();
      let waitMs = 0;
      try {
        await this.#read(used);
      } catch (error) {
        if (error.status === 401) {
          if (await tokenWanted(error.message, used)) continue;
        }
        waitMs = this.#failed(error);
      }
      if (this.#closed || this.state === "refused" || this.state === "absent") return;
      if (!document.hidden) this.#is("lost");
      await this.#pause(waitMs || this.#backoff());
    }
  }

  hurry() {
    if (this.state === "refused" && !this.#closed) {
      this.#is("connecting");
      this.run();
    }
    this.#wake();
  }

  close() {
    this.#closed = true;
    this.#request?.abort();
    this.#wake();
    clearTimeout(this.#silence);
  }

  /** The tab was hidden for long: let go, and resume when it is looked at. */
  rest() {
    this.#request?.abort();
  }

  async #read(used) {
    this.#request = new AbortController();
    this.#ready = false;
    const headers = { Accept: "text/event-stream", ...(used && { Authorization: used }) };
    const query = { ...this.#query };
    if (this.#cursor !== null) {
      headers["Last-Event-ID"] = this.#cursor;
      delete query.after;
    }
    this.#listen();
    const { signal } = this.#request;
    const response = await fetch(addressOf("/tasks/stream", query), { headers, signal, cache: "no-store" });
    if (!response.ok) throw await errorOf(response);
    const parser = new EventParser();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done || this.#closed) return;
      this.#listen();
      this.#is("live");
      for (const event of parser.push(value)) this.#take(event);
    }
  }

  #take(event) {
    if (event.id) this.#cursor = event.id;
    this.#failures = 0;
    const frame = JSON.parse(event.data);
    try {
      if (frame.type !== "heartbeat") this.#onFrame(frame);
      else if (!this.#ready) {
        this.#ready = true;
        this.#onReady();
      }
    } catch (error) {
      reportError(error); // a fault of the view's is none of the connection
    }
  }

  /** Begin to wait for the next bytes; a connection that says nothing for long is none. */
  #listen() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#request?.abort(), SILENCE_MS);
  }

  /** Return how long to wait at least, in ms. */
  #failed(error) {
    if (error.name !== "ServerError") return 0;
    this.message = error.message;
    if (error.status === 400 && this.#cursor !== null) {
      this.#cursor = null; // of another installation, say: begin anew
      return 0;
    }
    if (error.status >= 500 || error.status === 429) return (error.retryAfterSeconds ?? 0) * 1000;
    this.#is(error.status === 404 ? "absent" : "refused"); // the view says itself what is not there
    return 0;
  }

  #backoff() {
    const longest = BACKOFF_MS[Math.min(this.#failures, BACKOFF_MS.length - 1)];
    this.#failures += 1;
    return longest * (0.75 + Math.random() / 4);
  }

  #is(state) {
    if (state === "live") this.message = "";
    if (this.state === state) return;
    this.state = state;
    told();
  }

  async #visible() {
    while (document.hidden && !this.#closed) await this.#pause(HIDDEN_MS);
  }

  #pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

function connection() {
  const all = [...streams];
  for (const state of ["lost", "refused", "connecting", "live"]) {
    const one = all.find((stream) => stream.state === state);
    if (one) return { state, message: one.message };
  }
  return { state: "none", message: "" };
}

function told() {
  const now = connection();
  for (const listener of listeners) listener(now);
}

let hiding = null;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) {
    hiding = setTimeout(() => {
      for (const one of streams) one.rest();
    }, HIDDEN_MS);
  } else tryNow();
});
addEventListener("online", tryNow);
