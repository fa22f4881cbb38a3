/** What can be done about a task: cancel, run again, edit and run again, go on, delete its data. */

import { hashOf, taskHash } from "./addresses.js";
import { showDialog } from "./dialogs.js";
import { dropDraft } from "./draft.js";
import { element, fill } from "./element.js";
import { answered, keyUntilAnswered } from "./identifiers.js";
import { complain, say } from "./notices.js";
import { send, taskPath } from "./server.js";
import { isTerminal, stateWords } from "./states.js";

/** `put(task)`; `onDone()`: called when the task may have changed. */
export function actions(taskId, onDone) {
  const row = element("div", { class: "row" });
  let shown = "";
  row.put = (task) => {
    const offered = offers(task);
    const key = offered.map((one) => one.words).join();
    if (key === shown) {
      row.task = task;
      return; // the focus stays on its button
    }
    shown = key;
    row.task = task;
    fill(
      row,
      offered.map((one) => button(one, row, onDone)),
    );
  };
  return row;
}

function offers(task) {
  const isOver = isTerminal(task.state);
  const all = [
    [!isOver, { words: task.cancel ? "Cancel at once…" : "Cancel…", names: "danger", act: cancel }],
    [isOver, { words: "Run again", act: rerun }],
    [true, { words: "Edit and run again", act: edit }],
    [isOver && task.attempts.some((one) => one.session?.resumable), { words: "Go on from here…", act: resume }],
    [isOver && !task.purged_at, { words: "Delete data…", names: "danger", act: deleteData }],
  ];
  return all.filter(([isOffered]) => isOffered).map(([, one]) => one);
}

function button({ words, names, act }, row, onDone) {
  const made = element("button", { type: "button", class: names, text: words });
  made.addEventListener("click", async () => {
    if (made.disabled) return;
    made.disabled = true;
    try {
      await act(row.task);
    } catch (error) {
      complain(error);
    } finally {
      made.disabled = false;
      onDone();
    }
  });
  return made;
}

async function cancel(task) {
  const reason = element("input", { type: "text", maxlength: "1000" });
  const force = element("input", { type: "checkbox", checked: Boolean(task.cancel) });
  const children = element("input", { type: "checkbox" });
  const given = await showDialog({
    title: `Cancel ${task.name}?`,
    confirm: "Cancel the task",
    cancel: "Let it run",
    danger: true,
    body: [
      element("p", {
        class: "muted",
        text: `It is ${stateWords(task.state)}. Its sandbox is stopped; the log and the artifacts so far are kept.`,
      }),
      element("label", {}, "Reason (optional)", reason),
      element("label", { class: "check" }, force, "At once: kill it, without time to stop by itself"),
      element("label", { class: "check" }, children, "Also the tasks that have it as their parent"),
    ],
    read: () => ({ reason: reason.value.trim() || null, force: force.checked, children: children.checked }),
  });
  if (!given) return;
  const body = { force: given.force, ...(given.reason && { reason: given.reason }) };
  const query = { wait: 0, children: given.children ? "true" : null };
  say(await cancelled(taskPath(task.id), { method: "DELETE", query, body, isRepeatable: true }));
}

async function cancelled(path, request) {
  const done = "The task is cancelled.";
  try {
    const answer = await (await send(path, request)).json();
    return answer.new_state === "cancelled" ? done : "The cancellation is stored; the sandbox is being stopped.";
  } catch (error) {
    if (error.code === "task_already_terminal" && error.details?.task_state === "cancelled") return done;
    throw error;
  }
}

async function rerun(task) {
  const answer = await madeOnce(taskPath(task.id, "rerun"), {});
  say(`Submitted again as ${answer.task_id}.`);
  location.hash = taskHash(answer.task_id);
}

/** Make a task, one however often the button is pressed until an answer comes. */
async function madeOnce(path, body) {
  const name = JSON.stringify([path, body]);
  const headers = { "Idempotency-Key": keyUntilAnswered(name) };
  const answer = await (await send(path, { method: "POST", body, headers })).json();
  answered(name);
  return answer;
}

async function edit(task) {
  dropDraft(task.id); // of an earlier try: what is offered is this task's manifest
  location.hash = hashOf(["submit"], { from: task.id });
}

async function resume(task) {
  const prompt = element("textarea", { rows: "5" });
  const given = await showDialog({
    title: "Go on from here",
    confirm: "Start a new task",
    body: [
      element("p", {
        class: "muted",
        text: "A new task goes on from the workspace and the session that this one's agent has left.",
      }),
      element("label", {}, "What to do next (empty: go on where it stopped)", prompt),
    ],
    read: () => ({ prompt: prompt.value.trim() }),
  });
  if (!given) return;
  const answer = await madeOnce(taskPath(task.id, "resume"), given.prompt ? { prompt: given.prompt } : {});
  say(`Goes on as ${answer.task_id}.`);
  location.hash = taskHash(answer.task_id);
}

async function deleteData(task) {
  const given = await showDialog({
    title: "Delete its log and artifacts?",
    confirm: "Delete them",
    danger: true,
    body: [
      element("p", {
        text: "Log, artifacts and a preserved sandbox are removed for good. The task stays, with its outcome.",
      }),
    ],
  });
  if (!given) return;
  await send(taskPath(task.id, "data"), { method: "DELETE" });
  say("The task's data is deleted.");
}
