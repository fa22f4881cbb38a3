/** The fleet: each worker, what it can hold, what it runs, and how to take it out and bring it back. */

import { taskHash } from "./addresses.js";
import { bar } from "./bar.js";
import { copyable } from "./copying.js";
import { showDialog } from "./dialogs.js";
import { element, fill } from "./element.js";
import { keptFresh } from "./kept-fresh.js";
import { complain, say } from "./notices.js";
import { bytesText, countText, numberText } from "./quantities.js";
import { getJson, send, workerPath } from "./server.js";
import { stateBadge } from "./states.js";
import { age, exactly } from "./times.js";

const NAMED_TASKS = 1000;
const PARTS = { slots: "Slots", cpus: "CPUs", memory_bytes: "Memory", disk_bytes: "Disk" };
const MEANING = {
  active: "takes tasks",
  draining: "finishes what it has and takes nothing new",
  drained: "has nothing left and takes nothing new",
  stopped: "was stopped; it takes tasks when it is started again",
  lost: "has not been heard of; what it ran is placed elsewhere, or ends as lost",
};

export function fleetPage() {
  const cards = new Map();
  const fresh = keptFresh(load);
  const summary = element("p", { class: "muted small" });
  const grid = element("div", { class: "workers" });
  const none = element("div", { class: "panel empty", hidden: true }, [
    element("p", { text: "No worker is registered. Tasks are accepted and wait until there is one." }),
    element(
      "p",
      {},
      "Start one with ",
      element("code", { text: "sandbox worker" }),
      " or ",
      element("code", { text: "sandbox up" }),
      ".",
    ),
  ]);
  const view = element(
    "div",
    { class: "stack" },
    element("div", { class: "row between" }, element("h1", { text: "Fleet", tabindex: "-1" }), summary),
    fresh.trouble,
    none,
    grid,
  );

  async function load(signal) {
    const { workers } = await getJson("/workers", { signal });
    const names = workers.some((one) => one.task_ids.length) ? await namesOfTasks(signal) : new Map();
    show(workers, names);
  }

  function show(workers, names) {
    none.hidden = workers.length > 0;
    const active = workers.filter((one) => one.state === "active").length;
    const running = workers.reduce((sum, one) => sum + one.task_count, 0);
    const tasks = `${countText(running, "task")} on them`;
    summary.textContent = `${countText(active, "active worker")} of ${workers.length}, ${tasks}`;
    const there = new Set(workers.map((one) => one.name));
    for (const [name, card] of cards) {
      if (there.has(name)) continue;
      card.element.remove();
      cards.delete(name);
    }
    for (const worker of workers) {
      if (!cards.has(worker.name)) {
        const card = workerCard(worker.name, fresh.ask);
        cards.set(worker.name, card);
        grid.append(card.element);
      }
      cards.get(worker.name).put(worker, names);
    }
  }

  return {
    element: view,
    title: "Fleet",
    keys: {},
    close: fresh.close,
  };
}

async function namesOfTasks(signal) {
  const query = { state: "staging,provisioning,ready,running,completing", limit: NAMED_TASKS };
  const { tasks } = await getJson("/tasks", { query, signal });
  return new Map(tasks.map((task) => [task.id, task]));
}

function workerCard(name, onDone) {
  const badge = stateBadge("active");
  const meaning = element("p", { class: "muted small" });
  const trouble = element("div", { class: "callout", data: { kind: "warn" }, hidden: true });
  const bars = Object.fromEntries(Object.entries(PARTS).map(([part, words]) => [part, bar(words, { warns: true })]));
  const runs = element("ul", { class: "runs" });
  const offers = element("p", { class: "muted small" });
  const beat = element("p", { class: "muted small" });
  const doing = element("div", { class: "row" });
  const shown = {};

  /** Fill the part only when what it shows has changed: a link or button that has the focus keeps it. */
  function fillOnce(part, key, children) {
    const text = JSON.stringify(key);
    if (shown[part] === text) return;
    shown[part] = text;
    fill({ runs, beat, doing, trouble }[part], children());
  }

  return {
    element: element(
      "article",
      { class: "panel worker", "aria-label": `Worker ${name}` },
      element("div", { class: "row between" }, element("h2", { text: name }), badge),
      meaning,
      trouble,
      element("div", { class: "bars" }, Object.values(bars)),
      element("section", { class: "stack tight" }, element("h3", { text: "Runs" }), runs),
      offers,
      beat,
      doing,
    ),
    put(worker, names) {
      badge.put(worker.state);
      badge.title = MEANING[worker.state] ?? "";
      const until = worker.drain_until ? `; what still runs ends at ${exactly(worker.drain_until)}` : "";
      meaning.textContent = (MEANING[worker.state] ?? "") + (worker.draining ? until : "");
      trouble.hidden = !worker.trouble;
      fillOnce("trouble", worker.trouble, () => worker.trouble);
      for (const [part, one] of Object.entries(bars)) one.put(share(part, worker));
      fillOnce("runs", [worker.task_ids, worker.task_count, worker.task_ids.map((id) => names.get(id)?.state)], () =>
        running(worker, names),
      );
      offers.textContent = offered(worker);
      fillOnce("beat", worker.last_heartbeat_at, () => ["Last heartbeat ", age(worker.last_heartbeat_at)]);
      fillOnce("doing", [worker.state, worker.draining], () => buttons(worker, onDone));
    },
  };
}

function share(part, worker) {
  const used = worker.used[part];
  const all = worker.capacity[part];
  const text = part.endsWith("_bytes") ? bytesText : numberText;
  return { part: all > 0 ? used / all : 0, words: `${text(used)} of ${text(all)}` };
}

function running(worker, names) {
  if (worker.task_count === 0) return element("li", { class: "muted small", text: "nothing" });
  const hidden = worker.task_count - worker.task_ids.length;
  return [
    worker.task_ids.map((taskId) => {
      const task = names.get(taskId);
      return element(
        "li",
        { class: "row" },
        task && stateBadge(task.state),
        element("a", { href: taskHash(taskId), text: task?.name ?? taskId, title: taskId }),
      );
    }),
    hidden > 0 && element("li", { class: "muted small", text: `${countText(hidden, "task")} of other owners` }),
  ];
}

function offered(worker) {
  const parts = [`profiles ${worker.profiles.join(", ")}`, `network ${worker.network_modes.join(", ")}`];
  if (worker.agents.length) parts.push(`agents ${worker.agents.join(", ")}`);
  if (worker.version) parts.push(`version ${worker.version}`);
  return parts.join(" · ");
}

function buttons(worker, onDone) {
  const isGone = worker.state === "stopped" || worker.state === "lost";
  const doing = [
    !worker.draining && !isGone && ["Drain…", drain],
    worker.draining && !isGone && ["Another deadline…", drain],
    worker.draining && ["Take tasks again", resume],
    isGone && ["Remove…", remove],
  ];
  return doing.filter(Boolean).map(([words, act]) => {
    const button = element("button", { type: "button", class: act === remove ? "danger" : "", text: words });
    button.addEventListener("click", async () => {
      try {
        await act(worker.name);
      } catch (error) {
        complain(error);
      }
      onDone();
    });
    return button;
  });
}

async function drain(name) {
  const deadline = element("input", {
    type: "text",
    placeholder: "30m",
    pattern: "[0-9]+[smh]",
    title: "a duration like 90s, 30m or 2h",
  });
  const given = await showDialog({
    title: `Drain ${name}?`,
    confirm: "Drain",
    body: [
      element("p", {
        text: "It finishes what it has and takes nothing new, restarts included, until told to take tasks again.",
      }),
      element("label", {}, "End what still runs after (empty: no deadline)", deadline),
      element("p", {
        class: "muted small",
        text: "What the deadline ends is lost with its worker, and tried again where its manifest says so.",
      }),
    ],
    read: () => ({ deadline: deadline.value.trim() }),
  });
  if (!given) return;
  const body = given.deadline ? { deadline: given.deadline } : {};
  await send(workerPath(name, "drain"), { method: "POST", body, isRepeatable: true });
  say(`${name} is draining.`);
}

async function resume(name) {
  await send(workerPath(name, "resume"), { method: "POST", isRepeatable: true });
  say(`${name} takes tasks again.`);
}

async function remove(name) {
  const force = element("input", { type: "checkbox" });
  const given = await showDialog({
    title: `Remove ${name}?`,
    confirm: "Remove",
    danger: true,
    body: [
      element("p", { text: "The worker is forgotten. One that is started with this name again registers anew." }),
      element("label", { class: "check" }, force, "Its host is gone for good: give up what it still has"),
      element(
        "div",
        {},
        element("p", { class: "muted small", text: "On the command line:" }),
        copyable(`sandbox workers remove ${name}`),
      ),
    ],
    read: () => ({ force: force.checked }),
  });
  if (!given) return;
  await send(workerPath(name), { method: "DELETE", query: { force: given.force ? "true" : null } });
  say(`${name} is removed.`);
}
