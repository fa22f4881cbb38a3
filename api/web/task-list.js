/** The list of tasks: filtered, newest first, live. */

import { hashOf, replaceHash, taskHash } from "./addresses.js";
import { bar } from "./bar.js";
import { element, fill } from "./element.js";
import { failure } from "./failure.js";
import { follow } from "./live.js";
import { bytesText, countText } from "./quantities.js";
import { getJson } from "./server.js";
import { GROUPS, isTerminal, stateBadge } from "./states.js";
import { Throttle } from "./throttle.js";
import { age, lasted } from "./times.js";
import { onTokenChange } from "./token.js";

const PAGE = 100;
const RELOADED = 200;
/** So many of the newest are loaded anew when something changed; older ones are patched by what the stream says. */
const RELOAD_MS = 1500;
const EVERY_MS = 5000;
/** Why a task waits, and that its agent asks something, may change without a change of state. */

/** What was shown last, so that coming back from a task finds the list as it was. */
const NOTHING_KEPT = { address: null, tasks: [], total: 0, scrollY: 0, focused: null };
let kept = NOTHING_KEPT;
let tokens = 0;
/** What one token may see is not shown under another. */
onTokenChange(() => {
  tokens += 1;
  kept = NOTHING_KEPT;
});

export function taskList({ query }) {
  const filter = filterOf(query);
  const rows = new Map();
  let tasks = [];
  let total = 0;
  let isLoaded = false;
  let loading = new AbortController();
  let wanted = PAGE;
  const token = tokens;

  const chips = GROUPS.map((group) => stateChip(group, filter, changed));
  const labelChips = element("div", { class: "chips" });
  const search = element("input", {
    type: "search",
    placeholder: "Name or id  ( / )",
    value: filter.text,
    "aria-label": "Show tasks whose name or id has this text",
    on: {
      input: () => {
        filter.text = search.value;
        remember();
        show();
      },
    },
  });
  const labelField = element("input", {
    type: "text",
    placeholder: "Label: key=value, then Enter",
    autocapitalize: "off",
    spellcheck: "false",
    "aria-label": "Show tasks with this label, key=value",
  });
  labelField.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const given = labelField.value.trim();
    const isLabel = given.indexOf("=") > 0;
    labelField.setCustomValidity(isLabel || !given ? "" : "Write it as key=value");
    labelField.reportValidity();
    if (isLabel) addLabel(given);
  });
  labelField.addEventListener("input", () => labelField.setCustomValidity(""));

  const counted = element("p", { class: "muted small", role: "status" });
  const body = element("tbody");
  const table = element("table", { class: "cards tasks" }, head(), body);
  const nothing = element("div", { class: "empty", hidden: true });
  const more = element("button", { type: "button", text: "Show more", hidden: true, on: { click: loadMore } });
  const trouble = element("div");
  const view = element(
    "div",
    { class: "stack" },
    element("div", { class: "row between" }, element("h1", { text: "Tasks", tabindex: "-1" }), counted),
    element(
      "div",
      { class: "filters" },
      search,
      labelField,
      element("div", { class: "chips", role: "group", "aria-label": "States" }, chips),
      labelChips,
    ),
    trouble,
    element("div", { class: "panel table-panel" }, table, nothing),
    element("div", { class: "row" }, more),
  );

  const reload = new Throttle(RELOAD_MS, load);
  let stream = null;
  const timer = setInterval(() => {
    if (!document.hidden) reload.ask();
  }, EVERY_MS);

  function begin() {
    stream?.close();
    stream = follow(
      { filter: "state_change,progress", exclude_preexisting: "true", ...labelQuery(filter) },
      { onFrame: take, onReady: () => reload.ask() },
    );
    load();
  }

  function take(frame) {
    const known = rows.get(frame.task_id);
    if (frame.type === "progress" && known) {
      known.put({ ...known.task, progress: { ...known.task.progress, ...frame.progress } });
      return;
    }
    if (frame.type === "state_change" && known) patch(known, frame);
    if (frame.type !== "progress") reload.ask();
  }

  function patch(known, frame) {
    const task = {
      ...known.task,
      state: frame.new_state,
      state_message: frame.state_message,
      finished_at: isTerminal(frame.new_state) ? frame.timestamp : known.task.finished_at,
    };
    tasks = tasks.map((one) => (one.id === task.id ? task : one));
    known.put(task);
    if (filter.states.length && !filter.states.includes(task.state)) show();
  }

  async function load() {
    const { signal } = loading;
    try {
      const limit = Math.min(Math.max(tasks.length, PAGE), RELOADED);
      const found = await page(limit, 0);
      if (signal.aborted) return;
      const last = found.tasks.at(-1);
      const seen = new Set(found.tasks.map((one) => one.id));
      const older =
        found.has_more && last ? tasks.filter((one) => one.created_at <= last.created_at && !seen.has(one.id)) : [];
      put([...found.tasks, ...older].slice(0, Math.max(wanted, RELOADED)), found.total_count);
    } catch (error) {
      failed(error, () => reload.ask());
    }
  }

  async function loadMore() {
    more.disabled = true;
    try {
      const found = await page(PAGE, tasks.length);
      const seen = new Set(tasks.map((one) => one.id));
      put([...tasks, ...found.tasks.filter((one) => !seen.has(one.id))], found.total_count);
      wanted = tasks.length;
    } catch (error) {
      failed(error, loadMore);
    } finally {
      more.disabled = false;
    }
  }

  function page(limit, offset) {
    const states = filter.states.length ? filter.states.join(",") : null;
    return getJson("/tasks", {
      query: { state: states, limit, offset, ...labelQuery(filter) },
      signal: loading.signal,
    });
  }

  function put(found, count) {
    fill(trouble);
    tasks = found;
    total = count;
    isLoaded = true;
    show();
  }

  function failed(error, again) {
    if (error.name !== "AbortError") fill(trouble, failure(error, again));
  }

  /** Bring the rows in line with the tasks. A row stays the same element, so the focus stays where it is. */
  function show() {
    const shown = tasks.filter((task) => isAskedFor(task, filter) && hasText(task, filter.text));
    const ids = new Set(shown.map((task) => task.id));
    for (const [id, row] of rows) {
      if (ids.has(id)) continue;
      row.element.remove();
      rows.delete(id);
    }
    let next = body.firstElementChild;
    for (const task of shown) {
      let row = rows.get(task.id);
      if (row) row.put(task);
      else rows.set(task.id, (row = taskRow(task, addLabel)));
      if (row.element === next) next = next.nextElementSibling;
      else body.insertBefore(row.element, next);
    }
    sayHowMany(shown.length);
  }

  function sayHowMany(shown) {
    const isSearched = filter.text && shown !== tasks.length;
    const of = !isLoaded
      ? ""
      : tasks.length < total
        ? `the newest ${tasks.length} of ${countText(total, "task")}`
        : countText(total, "task");
    const words = isSearched ? `${shown} of ${of}` : of;
    if (counted.textContent !== words) counted.textContent = words;
    more.hidden = tasks.length >= total;
    table.hidden = shown === 0;
    nothing.hidden = shown !== 0 || !isLoaded;
    if (shown === 0) fill(nothing, ...whyNothing(filter, tasks.length < total, clear));
  }

  function addLabel(label) {
    labelField.value = "";
    if (filter.labels.includes(label)) return;
    filter.labels.push(label);
    changed();
  }

  function clear() {
    Object.assign(filter, { states: [], labels: [], text: "" });
    search.value = "";
    changed();
  }

  function changed() {
    remember();
    for (const chip of chips) chip.update();
    fill(
      labelChips,
      filter.labels.map((label) => labelChip(label, () => removeLabel(label))),
    );
    labelChips.hidden = filter.labels.length === 0;
    loading.abort();
    loading = new AbortController();
    tasks = tasks.filter((task) => isAskedFor(task, filter));
    show();
    begin();
  }

  function removeLabel(label) {
    filter.labels = filter.labels.filter((one) => one !== label);
    changed();
  }

  function remember() {
    replaceHash(addressOfFilter(filter));
  }

  function move(by) {
    const links = [...body.querySelectorAll(".name")];
    const at = links.findIndex((one) => one.closest("tr").contains(document.activeElement));
    const next = at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, at + by));
    links[next]?.focus();
  }

  const isBack = kept.address === addressOfFilter(filter);
  if (isBack) {
    total = kept.total;
    tasks = kept.tasks.slice(0, RELOADED); // nobody has told of changes of the others meanwhile
    wanted = tasks.length;
    isLoaded = true;
    const { scrollY: top, focused } = kept;
    requestAnimationFrame(() => {
      rows.get(focused)?.link.focus({ preventScroll: true });
      scrollTo(0, top);
    });
  }
  changed();

  return {
    element: view,
    title: "Tasks",
    keepsScroll: isBack,
    keys: {
      "/": () => search.focus(),
      j: () => move(1),
      k: () => move(-1),
    },
    close() {
      const focused = document.activeElement?.closest?.("tr")?.dataset.task ?? null;
      if (token === tokens) kept = { address: addressOfFilter(filter), tasks, total, scrollY, focused };
      stream?.close();
      reload.stop();
      loading.abort();
      clearInterval(timer);
    },
  };
}

function filterOf(query) {
  return {
    states: (query.get("state") ?? "").split(",").filter((one) => GROUPS.some((group) => group.states.includes(one))),
    labels: query.getAll("label").filter((one) => one.indexOf("=") > 0),
    text: query.get("text") ?? "",
  };
}

function addressOfFilter(filter) {
  return hashOf(["tasks"], { state: filter.states.join(","), label: filter.labels, text: filter.text });
}

function labelQuery(filter) {
  const query = {};
  for (const label of filter.labels) {
    const [, name, value] = /^([^=]*)=(.*)$/s.exec(label);
    query[`label.${name}`] = [...(query[`label.${name}`] ?? []), value];
  }
  return query;
}

/** What the server is asked for, too. */
function isAskedFor(task, filter) {
  if (filter.states.length && !filter.states.includes(task.state)) return false;
  const labels = new Set(Object.entries(task.labels).map(([name, value]) => `${name}=${value}`));
  return filter.labels.every((label) => labels.has(label));
}

function hasText(task, wanted) {
  const text = wanted.trim().toLowerCase();
  return !text || task.name.toLowerCase().includes(text) || task.id.toLowerCase().includes(text);
}

function stateChip(group, filter, changed) {
  const chip = element("button", { type: "button", class: "chip", text: group.name });
  chip.update = () => {
    chip.setAttribute("aria-pressed", String(group.states.every((state) => filter.states.includes(state))));
  };
  chip.addEventListener("click", () => {
    const isOn = chip.getAttribute("aria-pressed") === "true";
    const others = filter.states.filter((state) => !group.states.includes(state));
    filter.states = isOn ? others : [...others, ...group.states];
    changed();
  });
  chip.update();
  return chip;
}

function labelChip(label, remove) {
  const attributes = {
    type: "button",
    class: "chip",
    "aria-pressed": "true",
    "aria-label": `Remove the filter ${label}`,
  };
  return element(
    "button",
    { ...attributes, on: { click: remove } },
    label,
    element("span", { "aria-hidden": "true", text: "×" }),
  );
}

function head() {
  const names = ["State", "Task", "Worker", "Progress", "Duration", "Created"];
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

function taskRow(task, addLabel) {
  const badge = stateBadge(task.state);
  const asks = element("span", {
    class: "state",
    data: { state: "asks" },
    text: "asks",
    title: "its agent waits for an answer",
    hidden: true,
  });
  const link = element("a", { class: "name", href: taskHash(task.id) });
  const id = element("span", { class: "muted small mono", text: task.id });
  const labels = element("div", { class: "labels" });
  const message = element("div", { class: "muted small told" });
  const worker = element("td", { class: "muted" });
  const far = element("td", { class: "how-far" });
  const lasts = element("td", { class: "when muted" });
  const when = element("td", { class: "when muted" }, age(task.created_at));
  const row = {
    task: null,
    link,
    element: element(
      "tr",
      { data: { task: task.id } },
      element("td", {}, element("div", { class: "row" }, badge, asks)),
      element("td", { class: "wide" }, link, element("div", { class: "row" }, id, labels), message),
      worker,
      far,
      lasts,
      when,
    ),
    put(now) {
      const before = row.task;
      if (before && JSON.stringify(before) === JSON.stringify(now)) return;
      row.task = now;
      badge.put(now.state);
      asks.hidden = !now.input_required;
      link.textContent = now.name;
      message.textContent = isTerminal(now.state) || now.state === "running" ? "" : (now.state_message ?? "");
      worker.textContent = now.worker ?? "";
      if (JSON.stringify(before?.labels) !== JSON.stringify(now.labels))
        fill(labels, labelButtons(now.labels, addLabel));
      fill(far, howFar(now));
      fill(lasts, now.started_at ? lasted(now.started_at, now.finished_at) : null);
    },
  };
  row.put(task);
  return row;
}

function labelButtons(labels, add) {
  return Object.entries(labels).map(([name, value]) => {
    const label = `${name}=${value}`;
    return element("button", {
      type: "button",
      class: "label",
      text: label,
      title: "Show only tasks with this label",
      on: { click: () => add(label) },
    });
  });
}

function howFar(task) {
  const { percent, text, current_tool: tool, tool_calls: calls, output_bytes: printed } = task.progress;
  if (typeof percent === "number" && !isTerminal(task.state)) {
    const shown = bar(text || "Progress");
    shown.put({ part: percent / 100, words: `${Math.round(percent)} %` });
    return shown;
  }
  if (task.state === "running" && (text || tool))
    return element("span", { class: "small", text: text || `uses ${tool}` });
  if (calls) return element("span", { class: "muted small", text: countText(calls, "tool call") });
  return printed ? element("span", { class: "muted small", text: `${bytesText(printed)} of output` }) : null;
}

function whyNothing(filter, hasMore, clear) {
  const isFiltered = filter.states.length || filter.labels.length || filter.text;
  if (!isFiltered) {
    return [
      element("p", { text: "There are no tasks yet." }),
      element("a", { class: "button primary", href: hashOf(["submit"]), text: "Submit the first one" }),
      element(
        "p",
        { class: "muted small" },
        "or on the command line: ",
        element("code", { text: "sandbox task submit FILE --follow" }),
      ),
    ];
  }
  const where = hasMore && filter.text ? "None of the newest tasks that are loaded matches." : "No task matches.";
  return [
    element("p", { text: where }),
    element("button", { type: "button", text: "Clear the filters", on: { click: clear } }),
  ];
}
