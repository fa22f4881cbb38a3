/** What waits for a worker, in the order it is placed in, and why. */

import { taskHash } from "./addresses.js";
import { element, fill } from "./element.js";
import { keptFresh } from "./kept-fresh.js";
import { countText } from "./quantities.js";
import { getJson } from "./server.js";
import { lasted } from "./times.js";

const SHOWN = 1000;

export function queuePage() {
  const rows = new Map();
  const fresh = keptFresh(load);
  const summary = element("p", { class: "muted small", role: "status" });
  const reasons = element("section", { class: "panel stack tight", "aria-label": "Why they wait" });
  const body = element("tbody");
  const table = element("div", { class: "panel table-panel" }, element("table", { class: "cards" }, head(), body));
  const none = element("div", { class: "panel empty" }, element("p", { text: "Nothing waits." }));
  let shownReasons = "";
  const view = element(
    "div",
    { class: "stack" },
    element("div", { class: "row between" }, element("h1", { text: "Queue", tabindex: "-1" }), summary),
    element("p", {
      class: "muted small",
      text: "Higher priority first, then the older one. A task that does not fit now lets smaller ones pass.",
    }),
    fresh.trouble,
    reasons,
    none,
    table,
  );
  reasons.hidden = none.hidden = table.hidden = true;

  async function load(signal) {
    const query = { state: "pending", sort: "created_at", order: "asc", limit: SHOWN };
    const found = await getJson("/tasks", { query, signal });
    show(found.tasks, found.total_count);
  }

  function show(tasks, total) {
    const line = [...tasks].sort((a, b) => b.priority - a.priority || (a.created_at < b.created_at ? -1 : 1));
    summary.textContent =
      tasks.length < total ? `the oldest ${tasks.length} of ${countText(total, "task")}` : countText(total, "task");
    none.hidden = tasks.length > 0;
    table.hidden = reasons.hidden = !none.hidden;
    showReasons(line);
    const ids = new Set(line.map((task) => task.id));
    for (const [id, row] of rows) {
      if (ids.has(id)) continue;
      row.element.remove();
      rows.delete(id);
    }
    let next = body.firstElementChild;
    line.forEach((task, index) => {
      let row = rows.get(task.id);
      if (!row) rows.set(task.id, (row = queueRow(task)));
      row.put(task, index + 1);
      if (row.element === next) next = next.nextElementSibling;
      else body.insertBefore(row.element, next);
    });
  }

  function showReasons(line) {
    const counts = new Map();
    for (const task of line) counts.set(whyOf(task), (counts.get(whyOf(task)) ?? 0) + 1);
    const sorted = [...counts].sort(([, a], [, b]) => b - a).slice(0, 5);
    const key = JSON.stringify(sorted);
    if (key === shownReasons) return;
    shownReasons = key;
    fill(
      reasons,
      element("h2", { text: "Why they wait" }),
      sorted.map(([why, count]) => element("p", {}, element("strong", { text: `${count} × ` }), why)),
    );
  }

  return {
    element: view,
    title: "Queue",
    keys: {},
    close: fresh.close,
  };
}

function whyOf(task) {
  return task.state_message ?? "waits to be looked at";
}

function head() {
  const names = ["", "Task", "Priority", "Waits for", "Why"];
  return element(
    "thead",
    {},
    element(
      "tr",
      {},
      names.map((name) => element("th", { scope: "col", text: name })),
    ),
  );
}

function queueRow(task) {
  const position = element("td", { class: "muted" });
  const why = element("td", { class: "wide" });
  const name = element("a", { href: taskHash(task.id), text: task.name });
  return {
    element: element(
      "tr",
      { data: { task: task.id } },
      position,
      element("td", {}, name, element("div", { class: "muted small mono", text: task.id })),
      element("td", { text: task.priority }),
      element("td", { class: "nowrap" }, lasted(task.created_at, null)),
      why,
    ),
    put(now, at) {
      position.textContent = String(at);
      why.textContent = whyOf(now);
    },
  };
}
