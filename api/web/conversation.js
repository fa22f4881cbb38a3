/** Talk to an agent: answer what it asks, or tell it something while it runs. */

import { element, fill } from "./element.js";
import { failure } from "./failure.js";
import { say } from "./notices.js";
import { send, taskPath } from "./server.js";
import { isTerminal } from "./states.js";
import { age } from "./times.js";

/** `put(task)`. `onSent()`: called when something was handed in. */
export function conversation(taskId, onSent) {
  const whole = element("section", { "aria-label": "The agent", hidden: true });
  let shown = null;

  whole.put = (task) => {
    const question = task.input_required;
    const talks =
      Boolean(task.definition.claude?.interactive) && !isTerminal(task.state) && task.state !== "completing";
    const key = question ? `question ${question.id}` : talks ? "message" : null;
    whole.hidden = key === null;
    if (key === shown) return; // what somebody is writing stays
    shown = key;
    if (question) fill(whole, questionForm(taskId, question, onSent));
    else if (talks) fill(whole, messageForm(taskId, onSent));
  };
  return whole;
}

function questionForm(taskId, question, onSent) {
  const isMessage = question.kind === "message";
  const bodyOf = (answer) => (isMessage ? { text: answer } : { id: question.id, answer });
  const form = inputForm(isMessage ? "Your message" : "Your answer", taskId, bodyOf, onSent);
  const options = question.options.map((option) =>
    element("button", { type: "button", text: option, on: { click: () => form.give(option) } }),
  );
  return element(
    "div",
    { class: "callout", data: { kind: "warn" }, role: "group" },
    element(
      "div",
      { class: "row between" },
      element("h2", { text: HEADINGS[question.kind] ?? "The agent waits for you" }),
      element("span", { class: "muted small" }, "asked ", age(question.asked_at)),
    ),
    element("p", { class: "said", text: question.text }),
    options.length > 0 && element("div", { class: "options" }, options),
    form,
  );
}

const HEADINGS = {
  question: "The agent asks",
  permission: "The agent asks for a permission",
  message: "The agent waits for a message",
};

function messageForm(taskId, onSent) {
  return element(
    "details",
    { class: "panel" },
    element("summary", { text: "Tell the agent something" }),
    inputForm("Your message", taskId, (text) => ({ text }), onSent),
  );
}

function inputForm(words, taskId, bodyOf, onSent) {
  const field = element("textarea", { rows: "2", "aria-label": words, placeholder: words });
  const button = element("button", { type: "submit", class: "primary", text: "Send" });
  const trouble = element("div");
  const form = element("form", { class: "stack tight" }, field, trouble, element("div", { class: "row" }, button));
  form.give = async (text) => {
    if (!text.trim() || button.disabled) return;
    button.disabled = true;
    try {
      await send(taskPath(taskId, "input"), { method: "POST", body: bodyOf(text) });
      fill(trouble);
      field.value = "";
      say("Sent to the agent.");
      onSent();
    } catch (error) {
      fill(trouble, failure(error));
    } finally {
      button.disabled = false;
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    form.give(field.value);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  return form;
}
