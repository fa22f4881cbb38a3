import { StartedWorker } from "../assets/started-worker.js";
import { check, equal, until } from "./check.js";

/** A worker of which only the `number`-th one is loaded; it says what it is told. */
function started(number, { failure = null } = {}) {
  const told = [];
  const made = [];
  const make = () => {
    const worker = {
      isEnded: false,
      terminate() {
        this.isEnded = true;
      },
      postMessage(message) {
        if (made.length === number) setTimeout(() => this.onmessage({ data: message }), 0);
      },
    };
    made.push(worker);
    const isLast = made.length === number;
    if (!isLast) setTimeout(() => worker.onerror({ message: undefined }), 0);
    else if (failure) setTimeout(() => worker.onerror({ message: failure }), 0);
    return worker;
  };
  const worker = new StartedWorker(make, {
    onStart: () => worker.tell(`open ${made.length}`),
    onMessage: (data) => told.push(data),
    onWaiting: () => told.push("waiting"),
    onFailed: (message) => told.push(`failed: ${message}`),
  });
  worker.start();
  return { worker, told, made };
}

check("a worker whose files do not come is started again until they do, and told everything anew", async () => {
  const { told, made } = started(3);
  await until(() => told.length === 3, "the third one has answered");
  equal(told, ["waiting", "waiting", "open 3"]);
  equal(
    made.map((one) => one.isEnded),
    [true, true, false],
  );
});

check("a worker whose code fails is not started again", async () => {
  const { told, made } = started(1, { failure: "x is not a function" });
  await until(() => told.length === 2, "both are told");
  equal(told.sort(), ["failed: x is not a function", "open 1"]);
  equal(made.length, 1);
});

check("a worker that is ended before it was loaded stays away", async () => {
  const { worker, told, made } = started(9);
  await until(() => told.length === 1, "it waits");
  worker.end();
  await new Promise((resolve) => setTimeout(resolve, 300));
  equal(told, ["waiting"]);
  equal(made.length, 1);
});
