/** Write a manifest, see at once what is wrong with it, and submit it. */

import { taskHash } from "./addresses.js";
import { draft, dropDraft, keepDraft } from "./draft.js";
import { editor } from "./editor.js";
import { element, fill } from "./element.js";
import { EXAMPLES } from "./examples.js";
import { failure } from "./failure.js";
import { randomKey } from "./identifiers.js";
import { say } from "./notices.js";
import { countText } from "./quantities.js";
import { getJson, send, taskPath } from "./server.js";
import { withoutDefaults, yamlOf } from "./yaml.js";

const TYPING_MS = 350;

export function submitPage({ query }) {
  let checking = null;
  let timer = null;
  let key = null;

  const verdict = element("div", { role: "status", "aria-live": "polite" });
  const problems = element("ol", { class: "problems" });
  const trouble = element("div");
  const button = element("button", { type: "button", class: "primary", text: "Submit", on: { click: submit } });
  const text = editor({ label: "Manifest", describedBy: "editor-keys", onChange: changed, onSubmit: submit });
  const examples = EXAMPLES.map((one) =>
    element("button", { type: "button", class: "small", text: one.name, on: { click: () => text.replace(one.text) } }),
  );
  const from = query.get("from");
  const view = element(
    "div",
    { class: "stack" },
    element("h1", { text: "Submit a task", tabindex: "-1" }),
    from &&
      element(
        "p",
        { class: "muted" },
        "This is the manifest of ",
        element("a", { href: taskHash(from), class: "mono", text: from }),
        ". What is submitted is a new task.",
      ),
    element(
      "div",
      { class: "submit" },
      element(
        "div",
        { class: "stack tight" },
        text.element,
        element(
          "p",
          { class: "muted small", id: "editor-keys" },
          element("kbd", { text: "Tab" }),
          " indents, ",
          element("kbd", { text: "Esc" }),
          " then ",
          element("kbd", { text: "Tab" }),
          " leaves the editor, ",
          element("kbd", { text: "Ctrl+Enter" }),
          " submits. YAML or JSON.",
        ),
      ),
      element(
        "aside",
        {},
        element(
          "section",
          { class: "panel stack tight", "aria-label": "Check" },
          verdict,
          problems,
          trouble,
          element("div", {}, button),
        ),
        element(
          "section",
          { class: "panel stack tight" },
          element("h2", { text: "Start from" }),
          element("div", { class: "options" }, examples),
        ),
      ),
    ),
  );

  function changed(now) {
    key = null;
    keepDraft(from, now);
    fill(trouble);
    clearTimeout(timer);
    timer = setTimeout(check, TYPING_MS);
  }

  async function check() {
    checking?.abort();
    checking = new AbortController();
    const { signal } = checking;
    const { text: given } = text;
    if (!given.trim()) {
      show([], element("p", { class: "muted", text: "Write a manifest, or start from an example." }));
      return;
    }
    try {
      const query = { dry_run: "true" };
      const found = await getJson("/tasks", { method: "POST", query, body: given, signal, isRepeatable: true });
      show([], good(found));
    } catch (error) {
      if (error.name !== "AbortError") refused(error);
    }
  }

  /** The manifest's mistakes, or what else the server says. */
  function refused(error) {
    if (error.code !== "invalid_manifest") {
      show([], element("p", { class: "muted", text: "It could not be checked." }));
      fill(trouble, failure(error, check));
      return;
    }
    show(error.errors, element("p", {}, element("strong", { text: countText(error.errors.length, "mistake") })));
  }

  function show(found, words) {
    fill(trouble);
    fill(verdict, words);
    text.mark(found);
    fill(
      problems,
      found.map((one) => problem(one, text)),
    );
  }

  async function submit() {
    if (button.disabled) return;
    clearTimeout(timer);
    checking?.abort();
    const { text: given } = text;
    key ??= randomKey(); // the same text twice, as by a double click or after a lost answer, is one task
    button.disabled = true;
    fill(trouble);
    try {
      const response = await send("/tasks", { method: "POST", body: given, headers: { "Idempotency-Key": key } });
      const answer = await response.json();
      key = null;
      dropDraft(from);
      say(`Submitted as ${answer.task_id}.`);
      location.hash = taskHash(answer.task_id);
    } catch (error) {
      if (error.code === "invalid_manifest") {
        refused(error);
        if (error.errors[0]?.line) text.goTo(error.errors[0].line, error.errors[0].column);
      } else fill(trouble, failure(error, submit));
    } finally {
      button.disabled = false;
    }
  }

  async function begin() {
    const kept = draft(from);
    if (kept !== null || !from) {
      text.put(kept ?? EXAMPLES[0].text);
      check();
      return;
    }
    button.disabled = text.field.disabled = true; // until it is what is said of it
    checking = new AbortController();
    try {
      text.put(manifestOf(await getJson(taskPath(from), { signal: checking.signal })));
      button.disabled = text.field.disabled = false;
      check();
    } catch (error) {
      if (error.name !== "AbortError") fill(trouble, failure(error, begin));
    }
  }

  begin();
  return {
    element: view,
    title: "Submit",
    keys: { "/": () => text.field.focus() },
    close() {
      clearTimeout(timer);
      checking?.abort();
    },
  };
}

/** The manifest of a task, to be submitted as another one. */
function manifestOf(task) {
  const definition = withoutDefaults(task.definition);
  delete definition.metadata?.id;
  return yamlOf(definition);
}

function good(definition) {
  const { vm, lifecycle } = definition;
  const hosts = vm.network_mode === "outbound" ? ` (${countText(vm.allowed_hosts.length, "host")})` : "";
  const told = [
    `profile ${vm.profile}: ${vm.cpus} cpus, ${vm.memory} of memory, ${vm.disk} of disk`,
    `network ${vm.network_mode}${hosts}`,
    `at most ${lifecycle.timeout}`,
  ];
  return [
    element("p", {}, element("strong", { text: "Valid" })),
    element("p", { class: "muted small", text: told.join(" · ") }),
  ];
}

function problem(one, text) {
  const where = one.line ? `Line ${one.line}, column ${one.column}: ` : "";
  const go = () => one.line && text.goTo(one.line, one.column);
  return element(
    "li",
    {},
    element(
      "button",
      { type: "button", on: { click: go } },
      element("strong", { text: where }),
      one.message,
      one.suggestion && element("div", { class: "muted small", text: `Perhaps: ${one.suggestion}` }),
    ),
  );
}
