import { LogConnection } from "../assets/log-connection.js";
import { check, equal } from "./check.js";

const LOG = { taskId: "a b", attempt: null, authorization: null };

function event(id, name, body) {
  return `id: ${id}\nevent: ${name}\ndata: ${JSON.stringify({ seq: id, ...body })}\n\n`;
}

const line = (id) => event(id, "stdout", { data: `line ${id}\n` });
const END = event(99, "end", { state: "completed", exit_code: 0 });

/** An answer whose body is these chunks, then its end, or a broken connection. */
function streamed(chunks, isBroken = false) {
  const encoder = new TextEncoder();
  const left = [...chunks];
  const body = new ReadableStream({
    pull(controller) {
      const chunk = left.shift();
      if (chunk !== undefined) controller.enqueue(typeof chunk === "string" ? encoder.encode(chunk) : chunk);
      else if (isBroken) controller.error(new TypeError("network error"));
      else controller.close();
    },
  });
  return new Response(body, { status: 200 });
}

function refused(status, message, headers = {}) {
  return new Response(message === null ? "<html>" : JSON.stringify({ error: "x", message }), { status, headers });
}

/** Run a connection against these answers; a function raises what `fetch` raises. */
async function run(answers, log = LOG) {
  const told = { records: [], states: [], requests: [], pauses: [], last: null };
  const left = [...answers];
  const connection = new LogConnection(
    log,
    {
      onRecord: (name, body) => told.records.push(body.seq),
      onState: (state) => {
        told.states.push(state.state);
        told.last = state;
      },
    },
    {
      fetch: async (address, { headers }) => {
        const { "Last-Event-ID": after = null, Authorization: authorization = null } = headers;
        told.requests.push({ address, after, authorization });
        const answer = left.shift();
        return typeof answer === "function" ? answer() : answer;
      },
      pause: async (ms) => told.pauses.push(ms),
      turn: async () => {},
      now: () => performance.now(),
    },
  );
  await connection.run();
  return told;
}

check("a log is read to its end", async () => {
  const told = await run([streamed([line(1), line(2), END])]);
  equal(told.records, [1, 2]);
  equal(told.states, ["connecting", "live", "ended"]);
  equal([told.last.end.state, told.last.end.exit_code], ["completed", 0]);
  const address = "/api/v1/tasks/a%20b/logs?follow=true&format=sse";
  equal(told.requests, [{ address, after: null, authorization: null }]);
});

check("attempt and authorization are sent with every request", async () => {
  const log = { taskId: "t", attempt: 2, authorization: "Bearer x" };
  const told = await run([streamed([line(1)]), streamed([END])], log);
  equal(told.requests.map((one) => one.authorization), ["Bearer x", "Bearer x"]);
  equal(told.requests[1].address, "/api/v1/tasks/t/logs?follow=true&format=sse&attempt=2");
});

check("a cut connection goes on behind the last whole record, without loss or repeat", async () => {
  const half = line(3).slice(0, 30);
  const gone = () => Promise.reject(new TypeError("Failed to fetch"));
  const first = streamed([line(1), line(2) + half], true);
  const told = await run([first, gone, gone, streamed([line(3)]), streamed([line(4), END])]);
  equal(told.records, [1, 2, 3, 4]);
  equal(told.requests.map((one) => one.after), [null, "2", "2", "2", "3"]);
  equal(told.states, ["connecting", "live", "lost", "lost", "lost", "live", "lost", "live", "ended"]);
});

check("records are whole wherever the network cuts them", async () => {
  const bytes = new TextEncoder().encode(event(1, "stdout", { data: "日本 \u{1f600}\n" }) + line(2) + END);
  const chunks = Array.from(bytes, (_, at) => bytes.subarray(at, at + 1));
  equal((await run([streamed(chunks)])).records, [1, 2]);
});

check("comments that keep the connection alive are no records", async () => {
  equal((await run([streamed([": keep-alive\n\n", line(1), ": keep-alive\n\n", END])])).records, [1]);
});

check("pauses between tries grow and end where something comes", async () => {
  const gone = () => Promise.reject(new TypeError("Failed to fetch"));
  const told = await run([...Array(8).fill(gone), streamed([line(1)], true), streamed([END])]);
  equal(told.pauses.slice(0, 8).every((ms, at) => ms >= 250 * 2 ** Math.min(at, 4) && ms <= 10_000), true);
  equal(told.pauses[8] <= 500, true);
});

check("a server that is not ready is asked again when it wants to be", async () => {
  const away = refused(503, "the store is away", { "Retry-After": "7" });
  const told = await run([away, refused(502, null), streamed([END])]);
  equal(told.pauses[0], 7000);
  equal(told.states, ["connecting", "lost", "lost", "live", "ended"]);
});

for (const status of [400, 401, 403, 404]) {
  check(`an answer ${status} is told in the server's words and not asked again`, async () => {
    const told = await run([refused(status, "there is no task 'a b'")]);
    equal(told.states, ["connecting", "refused"]);
    equal([told.last.status, told.last.message], [status, "there is no task 'a b'"]);
  });
}

check("a record that cannot be read is told, not asked for again and again", async () => {
  const told = await run([streamed([line(1), "id: 2\nevent: stdout\ndata: {broken\n\n"])]);
  equal([told.records, told.last.state], [[1], "refused"]);
});

check("nothing is told after it was closed", async () => {
  const states = [];
  let body = null;
  const connection = new LogConnection(
    LOG,
    { onRecord: () => {}, onState: ({ state }) => states.push(state) },
    {
      fetch: async (_, { signal }) => {
        const stream = new ReadableStream({
          start(controller) {
            body = controller;
            signal.addEventListener("abort", () => controller.error(signal.reason));
          },
        });
        return new Response(stream);
      },
      pause: async () => {},
      turn: async () => {},
      now: () => 0,
    },
  );
  const ended = connection.run();
  while (!body || states.length < 2) await new Promise((resolve) => setTimeout(resolve));
  connection.close();
  await ended;
  equal(states, ["connecting", "live"]);
});

check("a log that nobody looks at lets go of its connection, and goes on behind the last record", async () => {
  const [records, requests, states] = [[], [], []];
  let letGo;
  const released = new Promise((resolve) => (letGo = resolve));
  const endless = (signal) =>
    new Response(
      new ReadableStream({
        start(controller) {
          controller.enqueue(new TextEncoder().encode(line(1)));
          signal.addEventListener("abort", () => {
            controller.error(new TypeError("aborted"));
            letGo();
          });
        },
      }),
    );
  const connection = new LogConnection(
    LOG,
    {
      onRecord: (name, body) => {
        records.push(body.seq);
        if (body.seq === 1) connection.rest();
      },
      onState: ({ state }) => states.push(state),
    },
    {
      fetch: async (address, { headers, signal }) => {
        requests.push(headers["Last-Event-ID"] ?? null);
        return requests.length === 1 ? endless(signal) : streamed([line(2), END]);
      },
      pause: async () => {},
      turn: async () => {},
      now: () => performance.now(),
    },
  );
  const ran = connection.run();
  await released;
  equal(requests, [null]);
  connection.wake();
  await ran;
  equal(records, [1, 2]);
  equal(requests, [null, "1"]);
  equal(states, ["connecting", "live", "live", "ended"]);
});
