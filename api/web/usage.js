/** What a task uses: plotted over time, in numbers, and the limits it runs under. */

import { element, fill } from "./element.js";
import { follow } from "./live.js";
import { usagePlot } from "./plot.js";
import { bytesText, countText, durationText, numberText } from "./quantities.js";
import { isTerminal } from "./states.js";

export function usagePanel(taskId) {
  const plot = usagePlot();
  const nothing = element("p", {
    class: "muted",
    text: "Nothing was measured yet. A running sandbox is measured about every 5 seconds.",
  });
  const gap = element("p", { class: "muted small", hidden: true });
  const numbers = element("dl", { class: "facts" });
  const models = element("div");
  const limits = element("div");
  const whole = element(
    "div",
    { class: "stack" },
    nothing,
    plot.element,
    gap,
    element("section", { class: "panel" }, element("h2", { text: "In all" }), numbers, models),
    limits,
  );
  plot.element.hidden = true;
  let stream = null;
  let task = null;

  function take(frame) {
    if (frame.type === "gap") {
      gap.textContent = `Older measurements are not kept: ${frame.reason}`;
      gap.hidden = false;
    }
    if (frame.type !== "metrics") return;
    nothing.hidden = true;
    plot.element.hidden = false;
    plot.add(Date.parse(frame.timestamp), frame.metrics);
  }

  function ready() {
    if (task && isTerminal(task.state)) hide(); // nothing more will come
  }

  function hide() {
    stream?.close();
    stream = null;
  }

  return {
    element: whole,
    show() {
      if (stream) return;
      plot.clear();
      stream = follow({ task_id: taskId, filter: "metrics", after: "0" }, { onFrame: take, onReady: ready });
    },
    hide,
    close: hide,
    put(now) {
      task = now;
      fill(numbers, facts(now.usage));
      fill(models, modelTable(now.usage.agent));
      fill(limits, limitTable(now.applied));
      if (now.applied) plot.setLimits(limitsOf(now.applied));
    },
  };
}

function limitsOf(applied) {
  const effective = (name) => applied[name]?.effective ?? null;
  return { cpus: effective("cpus"), memoryBytes: effective("memory_bytes"), diskBytes: effective("disk_bytes") };
}

function facts(usage) {
  const told = [
    ["Running time", durationText(usage.wall_seconds)],
    ["CPU time", durationText(usage.cpu_seconds)],
    ["Memory, highest", bytesText(usage.memory_peak_bytes)],
    ["Disk, highest", bytesText(usage.disk_peak_bytes)],
    ["Sent", bytesText(usage.bytes_up)],
    ["Received", bytesText(usage.bytes_down)],
  ];
  if (usage.agent) {
    told.push(["Turns", numberText(usage.agent.turns)]);
    told.push(["Input tokens", numberText(usage.agent.input_tokens)]);
    told.push(["Output tokens", numberText(usage.agent.output_tokens)]);
    told.push(["Cost", usage.agent.cost_usd === null ? "–" : `${numberText(usage.agent.cost_usd, 4)} USD`]);
  }
  return told.map(([name, value]) => element("div", {}, element("dt", { text: name }), element("dd", { text: value })));
}

function modelTable(agent) {
  const models = Object.entries(agent?.models ?? {});
  if (models.length === 0) return null;
  const head = element(
    "tr",
    {},
    ["Model", "Input", "Output", "Requests"].map((name) => element("th", { scope: "col", text: name })),
  );
  const rows = models.map(([name, used]) =>
    element(
      "tr",
      {},
      element("td", { class: "mono", text: name }),
      element("td", { text: numberText(used.input_tokens) }),
      element("td", { text: numberText(used.output_tokens) }),
      element("td", { text: countText(used.requests ?? 0, "request") }),
    ),
  );
  return element(
    "div",
    { class: "scroll-x" },
    element("table", {}, element("thead", {}, head), element("tbody", {}, rows)),
  );
}

function limitTable(applied) {
  if (!applied) return null;
  const head = element(
    "tr",
    {},
    ["Limit", "Asked for", "In force", "Held by"].map((name) => element("th", { scope: "col", text: name })),
  );
  const rows = Object.entries(applied)
    .filter(([, limit]) => limit !== null && typeof limit === "object" && "requested" in limit)
    .map(([name, limit]) =>
      element(
        "tr",
        {},
        element("td", { text: name.replace(/_bytes$/, "").replaceAll("_", " ") }),
        element("td", { text: limitText(name, limit.requested) }),
        element("td", { text: limit.effective === null ? "not enforced" : limitText(name, limit.effective) }),
        element("td", { class: "muted small", text: limit.mechanism ?? "–" }),
      ),
    );
  return element(
    "section",
    { class: "panel table-panel" },
    element("div", { class: "scroll-x" }, element("table", {}, element("thead", {}, head), element("tbody", {}, rows))),
  );
}

function limitText(name, value) {
  if (value === null || value === undefined) return "–";
  if (name.endsWith("_bytes")) return bytesText(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
