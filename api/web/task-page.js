/** One task: what it is, how far it is, why it ended, and everything it left. */

import { actions } from "./actions.js";
import { hashOf, replaceHash, taskHash } from "./addresses.js";
import { artifactsPanel } from "./artifacts.js";
import { attemptsPanel } from "./attempts.js";
import { bar } from "./bar.js";
import { conversation } from "./conversation.js";
import { copyButton, copyable } from "./copying.js";
import { definitionPanel } from "./definition.js";
import { element, fill } from "./element.js";
import { failure } from "./failure.js";
import { follow } from "./live.js";
import { logView } from "./log-view.js";
import { networkPanel } from "./network-panel.js";
import { outcomeShown } from "./outcome.js";
import { Changes, tries } from "./phases.js";
import { countText } from "./quantities.js";
import { getJson, send, taskPath } from "./server.js";
import { isTerminal, stateBadge } from "./states.js";
import { tabs } from "./tabs.js";
import { Throttle } from "./throttle.js";
import { timeline } from "./timeline.js";
import { age, exactly } from "./times.js";
import { authorization, tokenWanted } from "./token.js";
import { usagePanel } from "./usage.js";

const RELOAD_MS = 1000;
/** Some of what a task shows is told by no record of its own: what it uses, how far a cancellation is. */
const EVERY_MS = 10000;
const EVENTS = { stream: "events", format: "ndjson", attempt: "all" };

export function taskPage({ taskId, query }) {
  const changes = new Changes();
  const closing = new AbortController();
  let task = null;
  let attempt = attemptOf(query);
  let artifacts = null;
  let log = null;
  let shownOutcome = "";

  const phases = timeline();
  const trouble = element("div", {}, element("p", { class: "muted", text: "Loading…" }));
  const whichAttempt = element("p", { class: "muted small", hidden: true });
  const outcome = element("div", { hidden: true });
  const asks = conversation(taskId, () => reload.ask());
  const doing = actions(taskId, () => reload.ask());
  const header = taskHeader(taskId, doing);
  const reload = new Throttle(RELOAD_MS, load);
  const rooms = tabs(
    "What there is of the task",
    [
      { id: "log", name: "Log", make: makeLog },
      { id: "usage", name: "Usage", make: () => usagePanel(taskId) },
      { id: "artifacts", name: "Artifacts", make: makeArtifacts },
      { id: "outputs", name: "Outputs", make: outputsPanel },
      { id: "network", name: "Network", make: () => networkPanel(taskId) },
      { id: "attempts", name: "Attempts", make: () => attemptsPanel(chooseAttempt) },
      { id: "definition", name: "Definition", make: definitionPanel },
    ],
    remember,
  );
  const more = element(
    "div",
    { class: "stack", hidden: true },
    outcome,
    asks,
    element("section", { class: "panel", "aria-label": "Phases" }, phases, whichAttempt),
    rooms.element,
  );
  const view = element("div", { class: "stack" }, header.element, trouble, more);

  const stream = follow(
    { task_id: taskId, filter: "state_change,progress,error,artifact,event" },
    {
      onFrame: take,
      onReady: () => {
        reload.ask();
        readJournal();
      },
    },
  );
  const timer = setInterval(() => {
    if (task && !isTerminal(task.state) && !document.hidden) reload.ask();
  }, EVERY_MS);
  reload.ask();
  readJournal();

  function take(frame) {
    if (frame.type === "progress") {
      if (task) put({ ...task, progress: { ...task.progress, ...frame.progress } });
      return;
    }
    if (frame.type === "state_change") stateChanged(frame);
    if (frame.type === "artifact") artifacts?.reload();
    reload.ask();
  }

  function stateChanged(frame) {
    changes.add(frame);
    if (task)
      put({
        ...task,
        state: frame.new_state,
        state_message: frame.state_message,
        outcome: frame.outcome ?? task.outcome,
      });
  }

  async function load() {
    try {
      const before = task?.state;
      const found = await getJson(taskPath(taskId), { signal: closing.signal });
      fill(trouble);
      more.hidden = false;
      put(found);
      if (before === undefined && !rooms.select(query.get("tab") ?? "log")) rooms.select("log");
      if (isTerminal(found.state) && !(before && isTerminal(before))) countArtifacts();
    } catch (error) {
      if (error.name === "AbortError") return;
      more.hidden = task === null;
      fill(
        trouble,
        failure(error, () => reload.ask()),
      );
    }
  }

  /**
   * The state changes from before the stream began, read also while there is none. An agent's own events, which may be
   * many, are passed over.
   */
  async function readJournal() {
    try {
      const response = await send(taskPath(taskId, "logs"), { query: EVENTS, signal: closing.signal });
      for await (const line of linesOf(response.body)) {
        if (!line.includes('"state_change"')) continue;
        const record = JSON.parse(line);
        if (record.type === "state_change") changes.add(record);
      }
      showPhases();
    } catch (error) {
      if (error.name !== "AbortError") fill(trouble, failure(error, readJournal));
    }
  }

  function put(now) {
    task = now;
    document.title = `${task.name} · Sandbox`;
    header.put(task);
    asks.put(task);
    showOutcome();
    showPhases();
    const { network_mode: mode } = task.definition.vm;
    rooms.offer("network", mode !== "isolated");
    rooms.offer("outputs", Object.keys(task.outputs ?? {}).length > 0);
    rooms.count("outputs", Object.keys(task.outputs ?? {}).length);
    rooms.count("attempts", task.attempts.length > 1 ? task.attempts.length : 0);
    rooms.put(task);
  }

  function showOutcome() {
    const key = JSON.stringify([task.outcome, task.purged_at]);
    if (key === shownOutcome) return; // a hint that is being selected stays
    shownOutcome = key;
    outcome.hidden = !task.outcome;
    fill(outcome, outcomeShown(task.outcome, task.purged_at));
  }

  function showPhases() {
    if (!task) return;
    const all = tries(changes.all(), task.created_at);
    const at = attempt === null ? all.length - 1 : Math.min(attempt, all.length) - 1;
    phases.put(all[at]);
    whichAttempt.hidden = all.length < 2;
    whichAttempt.textContent = `Attempt ${at + 1} of ${all.length}`;
  }

  function chooseAttempt(number) {
    attempt = number === task.attempt ? null : number;
    log?.setAttempt(attempt);
    artifacts?.reload();
    showPhases();
    rooms.select("log");
    remember("log");
  }

  function makeLog() {
    const choice = element("select", { "aria-label": "Attempt" });
    const line = element("div", { class: "row", hidden: true }, element("label", {}, choice));
    const said = element("p", { class: "only-read", role: "status" });
    log = logView({
      taskId,
      attempt,
      authorization: authorization(),
      onUnauthorized: async (message, used) => ((await tokenWanted(message, used)) ? authorization() : null),
      onState: ({ ended }) => {
        said.textContent = ended ? "The log has ended." : "";
      },
    });
    choice.addEventListener("change", () =>
      log.setAttempt(choice.value === "" ? null : choice.value === "all" ? "all" : Number(choice.value)),
    );
    const set = log.setAttempt;
    log.setAttempt = (wanted) => {
      choice.value = wanted === null ? "" : String(wanted);
      set.call(log, wanted);
    };
    return {
      element: element("div", { class: "stack tight" }, line, log.element, said),
      put(now) {
        line.hidden = now.attempts.length < 2;
        if (choice.options.length === now.attempts.length + 2) return;
        const { value } = choice;
        const numbers = now.attempts.map((one) =>
          element("option", { value: one.attempt, text: `Attempt ${one.attempt}` }),
        );
        fill(
          choice,
          element("option", { value: "", text: "The latest attempt" }),
          numbers,
          element("option", { value: "all", text: "All attempts" }),
        );
        choice.value = value || (attempt === null ? "" : String(attempt));
      },
      close: () => log.destroy(),
    };
  }

  function searchLog() {
    rooms.select("log");
    log?.element.querySelector("input[type=search]")?.focus();
  }

  /** Once the task has ended. While it runs nobody knows how many there will be. */
  async function countArtifacts() {
    artifacts?.reload();
    try {
      const found = await getJson(taskPath(taskId, "artifacts"), { signal: closing.signal });
      rooms.count("artifacts", found.total_count);
    } catch {
      // The tab says what is the matter when it is looked at.
    }
  }

  function makeArtifacts() {
    artifacts = artifactsPanel(
      taskId,
      () => attempt,
      (count) => rooms.count("artifacts", count),
    );
    return artifacts;
  }

  function remember(tab) {
    replaceHash(taskHash(taskId, { tab: tab === "log" ? "" : tab, attempt: attempt === null ? "" : String(attempt) }));
  }

  return {
    element: view,
    title: taskId,
    keys: { "/": searchLog },
    close() {
      closing.abort();
      clearInterval(timer);
      stream.close();
      reload.stop();
      rooms.close();
    },
  };
}

function attemptOf(query) {
  const number = Number(query.get("attempt"));
  return Number.isInteger(number) && number > 0 ? number : null;
}

function taskHeader(taskId, buttons) {
  const name = element("h1", { text: taskId, tabindex: "-1" });
  const badge = stateBadge("pending");
  badge.hidden = true;
  const message = element("span", { class: "muted" });
  const labels = element("div", { class: "labels" });
  const progress = bar("Progress");
  const doing = element("p", { class: "small muted" });
  const facts = element("dl", { class: "facts" });
  progress.hidden = true;
  let known = "";
  return {
    element: element(
      "header",
      { class: "stack tight" },
      element("a", { class: "small", href: hashOf(["tasks"]), text: "← All tasks" }),
      element("div", { class: "row between" }, element("div", { class: "row" }, name, badge), buttons),
      element("p", { class: "small", role: "status" }, message),
      labels,
      progress,
      doing,
      facts,
    ),
    put(task) {
      name.textContent = task.name;
      badge.hidden = false;
      badge.put(task.state);
      buttons.put(task);
      message.textContent = saying(task);
      putProgress(progress, doing, task);
      const { progress: _moving, ...still } = task;
      const key = JSON.stringify(still);
      if (key === known) return;
      known = key;
      fill(
        labels,
        Object.entries(task.labels).map(([key, value]) => labelLink(`${key}=${value}`)),
      );
      fill(facts, factsOf(task));
    },
  };
}

function saying(task) {
  const { cancel } = task;
  if (cancel && !isTerminal(task.state)) {
    const why = cancel.reason ? `: ${cancel.reason}` : "";
    return `Being cancelled (${cancel.phase}), asked for by ${cancel.requested_by}${why}`;
  }
  return isTerminal(task.state) ? "" : (task.state_message ?? "");
}

function putProgress(shown, doing, task) {
  const { percent, text, current_tool: tool, tool_calls: calls } = task.progress;
  const isMoving = !isTerminal(task.state);
  shown.hidden = !(typeof percent === "number" && isMoving);
  if (!shown.hidden) shown.put({ part: percent / 100, words: `${Math.round(percent)} %${text ? ` · ${text}` : ""}` });
  const said = [
    shown.hidden && isMoving && text,
    tool && isMoving && `uses ${tool}`,
    calls && countText(calls, "tool call"),
  ];
  doing.textContent = said.filter(Boolean).join(" · ");
}

function labelLink(label) {
  return element("a", { class: "label", href: hashOf(["tasks"], { label }), text: label });
}

function factsOf(task) {
  const other = (taskId) => taskId && element("a", { class: "mono", href: taskHash(taskId), text: taskId });
  const told = [
    [
      "Id",
      element(
        "span",
        { class: "row" },
        element("span", { class: "mono small", text: task.id }),
        copyButton(() => task.id),
      ),
    ],
    ["Worker", task.worker],
    ["Attempt", task.attempt > 1 ? task.attempt : null],
    ["Created", age(task.created_at)],
    ["Started", task.started_at && age(task.started_at)],
    ["Ended", task.finished_at && age(task.finished_at)],
    ["Priority", task.priority || null],
    ["Owner", task.owner],
    ["Parent", other(task.parent_id)],
    ["Repeats", other(task.rerun_of)],
    ["Goes on from", other(task.resumed_from)],
    ["Sandbox kept until", task.preserve_until && exactly(task.preserve_until)],
    ["Data deleted", task.purged_at && exactly(task.purged_at)],
  ];
  return told
    .filter(([, value]) => value !== null && value !== undefined)
    .map(([name, value]) =>
      element("div", { class: name === "Id" && "wide" }, element("dt", { text: name }), element("dd", {}, value)),
    );
}

function outputsPanel() {
  const body = element("tbody");
  const head = element(
    "tr",
    {},
    ["Output", "Value"].map((name) => element("th", { scope: "col", text: name })),
  );
  let shown = "";
  return {
    element: element(
      "div",
      { class: "panel table-panel scroll-x" },
      element("table", {}, element("thead", {}, head), body),
    ),
    put(task) {
      const key = JSON.stringify(task.outputs);
      if (key === shown) return;
      shown = key;
      fill(
        body,
        Object.entries(task.outputs ?? {}).map(([name, value]) =>
          element("tr", {}, element("td", { class: "mono", text: name }), element("td", {}, copyable(value))),
        ),
      );
    },
  };
}

async function* linesOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    yield* lines;
  }
  if (rest) yield rest;
}
