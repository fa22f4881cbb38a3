/** Requests to the API. What it refuses is a `ServerError` with its own words; no answer at all is `Unreachable`. */

import { noteServerTime } from "./times.js";
import { authorization, tokenWanted } from "./token.js";

const API = "/api/v1";
const RETRY_AFTER_MS = [400, 1200];
const PATIENCE_MS = 30000;
/** For the head of an answer; its body may take as long as it takes. */

/** The API's error body (docs/rest.md): `message` says what failed, why and what to do. */
export class ServerError extends Error {
  constructor(status, body, retryAfterSeconds) {
    super(body.message ?? `the server answered ${status}`);
    this.name = "ServerError";
    this.status = status;
    this.code = body.error ?? null;
    this.details = body.details ?? null;
    this.errors = body.errors ?? [];
    this.requestId = body.request_id ?? null;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

export class Unreachable extends Error {
  /** `isRepeatable`: sent again, the request does nothing twice. */
  constructor(isRepeatable) {
    const next = isRepeatable
      ? "then try again"
      : "then look whether it was done before you try again: the answer may have been lost on its way";
    super(`The server does not answer. Check that it runs and that this machine reaches it; ${next}.`);
    this.name = "Unreachable";
  }
}

export function taskPath(taskId, ...more) {
  return ["/tasks", encodeURIComponent(taskId), ...more].join("/");
}

export function workerPath(name, ...more) {
  return ["/workers", encodeURIComponent(name), ...more].join("/");
}

/**
 * Send a request to a path below /api/v1, or to a path of the server that begins with /api/. A refused token is asked
 * for; a request that nobody answers, or that meets a server which is not ready, is sent again twice when it may be.
 *
 * `isRepeatable`: sent twice it does what it does once, as a GET does and whatever has an Idempotency-Key. `query`:
 * values that are null are left out, lists repeat their name. `body`: a string as it is, else JSON. Raises
 * `ServerError`, `Unreachable`, and what `signal` raises.
 */
export async function send(path, { method = "GET", query = {}, body, headers = {}, signal, isRepeatable } = {}) {
  const mayRepeat = isRepeatable ?? (method === "GET" || "Idempotency-Key" in headers);
  const address = addressOf(path, query);
  const isText = typeof body === "string";
  const given = body === undefined ? {} : { "Content-Type": isText ? "application/yaml" : "application/json" };
  for (let failed = 0; ; failed += 1) {
    const used = authorization();
    const sent = { ...given, ...headers, ...(used && { Authorization: used }) };
    const request = { method, headers: sent, body: isText ? body : JSON.stringify(body) };
    const response = await answerTo(address, request, signal);
    if (response?.ok) {
      noteServerTime(response.headers.get("Date"));
      return response;
    }
    const error = response ? await errorOf(response) : new Unreachable(mayRepeat);
    if (error.status === 401 && (await tokenWanted(error.message, used))) continue;
    const mayPass = mayRepeat && (!response || response.status === 503);
    if (!mayPass || failed >= RETRY_AFTER_MS.length) throw error;
    await pause(RETRY_AFTER_MS[failed], signal);
  }
}

export async function getJson(path, options) {
  return (await send(path, options)).json();
}

/** The answer, or null when there is none within `PATIENCE_MS`. */
async function answerTo(address, request, signal) {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), PATIENCE_MS);
  try {
    return await fetch(address, { ...request, signal: AbortSignal.any([patience.signal, signal].filter(Boolean)) });
  } catch (error) {
    if (signal?.aborted) throw error;
    return null;
  } finally {
    clearTimeout(timer);
  }
}

/** The error in an answer that is not ok. */
export async function errorOf(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // A proxy's page, say: the status is all there is.
  }
  const seconds = Number(response.headers.get("Retry-After"));
  return new ServerError(response.status, body, Number.isFinite(seconds) && seconds > 0 ? seconds : null);
}

export function addressOf(path, query = {}) {
  const pairs = Object.entries(query).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
  const text = new URLSearchParams(pairs.filter(([, value]) => value !== null && value !== undefined)).toString();
  return `${path.startsWith("/api/") ? path : API + path}${text ? `?${text}` : ""}`;
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
