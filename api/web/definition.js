/** The manifest of a task with all defaults filled in, as YAML or JSON. */

import { copyButton } from "./copying.js";
import { element } from "./element.js";
import { yamlOf } from "./yaml.js";

export function definitionPanel() {
  const source = element("pre", { class: "source", tabindex: "0", "aria-label": "Definition" });
  const form = element(
    "select",
    { "aria-label": "Form" },
    element("option", { value: "yaml", text: "YAML" }),
    element("option", { value: "json", text: "JSON" }),
  );
  let definition = null;

  function show() {
    const text = form.value === "json" ? `${JSON.stringify(definition, null, 2)}\n` : yamlOf(definition);
    if (source.textContent !== text) source.textContent = text;
  }
  form.addEventListener("change", show);
  return {
    element: element(
      "div",
      { class: "stack tight" },
      element(
        "div",
        { class: "row" },
        element("div", {}, form),
        copyButton(() => source.textContent),
      ),
      source,
    ),
    put(task) {
      definition = task.definition;
      show();
    },
  };
}
