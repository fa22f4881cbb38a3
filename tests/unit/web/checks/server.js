import { send } from "../assets/server.js";
import { check, equal, truly } from "./check.js";

/** Send a request while this many of its tries get no answer; returns what was sent, and the error or null. */
async function sent(lost, options) {
  const requests = [];
  const { fetch } = globalThis;
  globalThis.fetch = async (address, request) => {
    requests.push(request);
    if (requests.length <= lost) throw new TypeError("Failed to fetch");
    return new Response("{}", { status: 202 });
  };
  try {
    await send("/tasks", options);
    return { requests, error: null };
  } catch (error) {
    return { requests, error };
  } finally {
    globalThis.fetch = fetch;
  }
}

check("a request with an Idempotency-Key is sent again, with the same key, when nobody answers", async () => {
  const { requests, error } = await sent(2, { method: "POST", headers: { "Idempotency-Key": "k" } });
  equal(error, null);
  equal(
    requests.map((one) => one.headers["Idempotency-Key"]),
    ["k", "k", "k"],
  );
});

check("a request that may do something twice is sent once, and its failure says to look first", async () => {
  const { requests, error } = await sent(1, { method: "POST", body: { text: "x" } });
  equal(requests.length, 1);
  equal(error.name, "Unreachable");
  truly(error.message.includes("look whether it was done"), error.message);
});

check("a request that may be repeated says so itself", async () => {
  const { requests, error } = await sent(9, { method: "DELETE", isRepeatable: true });
  equal(requests.length, 3);
  truly(error.message.includes("then try again"), error.message);
});
