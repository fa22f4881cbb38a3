/** Tabs, by the pattern of the WAI-ARIA practices: arrow keys move, a panel is made when it is first looked at. */

import { element } from "./element.js";

let count = 0;

/**
 * `panels`: [{id, name, make}], where `make()` returns {element, put?(task), show?(), hide?(), close?()}.
 *
 * Returns {element, select(id), offer(id, isThere), count(id, n), put(task), close()}; `select` is false where there is
 * no such tab.
 */
export function tabs(label, panels, onSelect) {
  count += 1;
  const prefix = `tabs-${count}`;
  const list = element("div", { class: "tabs", role: "tablist", "aria-label": label });
  const whole = element("div", { class: "stack tight" }, list);
  const all = new Map(panels.map((one) => [one.id, entry(one, prefix)]));
  let selected = null;
  let last = null;

  function entry(one) {
    const number = element("span", { class: "count" });
    const tab = element(
      "button",
      {
        type: "button",
        role: "tab",
        id: `${prefix}-${one.id}`,
        "aria-controls": `${prefix}-${one.id}-panel`,
        tabindex: "-1",
      },
      one.name,
      number,
    );
    const panel = element("div", {
      id: `${prefix}-${one.id}-panel`,
      role: "tabpanel",
      "aria-labelledby": tab.id,
      tabindex: "-1",
      hidden: true,
    });
    tab.addEventListener("click", () => select(one.id));
    tab.addEventListener("keydown", (event) => step(event, one.id));
    list.append(tab);
    whole.append(panel);
    return { ...one, tab, panel, number, made: null };
  }

  function step(event, from) {
    const there = [...all.values()].filter((one) => !one.tab.hidden);
    const at = there.findIndex((one) => one.id === from);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: there.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = there[(to + there.length) % there.length];
    select(next.id);
    next.tab.focus();
  }

  function select(id) {
    const next = all.get(id);
    if (!next || next.tab.hidden) return false;
    if (next === selected) return true;
    if (selected) {
      selected.made.hide?.();
      mark(selected, false);
    }
    if (!next.made) {
      next.made = next.make();
      next.panel.append(next.made.element);
      if (last) next.made.put?.(last);
    }
    selected = next;
    mark(next, true);
    next.made.show?.();
    onSelect(id);
    return true;
  }

  function mark(one, isSelected) {
    one.tab.setAttribute("aria-selected", String(isSelected));
    one.tab.tabIndex = isSelected ? 0 : -1;
    one.panel.hidden = !isSelected;
  }

  return {
    element: whole,
    select,
    offer(id, isThere) {
      all.get(id).tab.hidden = !isThere;
    },
    count(id, number) {
      all.get(id).number.textContent = number ? String(number) : "";
    },
    put(task) {
      last = task;
      for (const one of all.values()) one.made?.put?.(task);
    },
    close() {
      for (const one of all.values()) one.made?.close?.();
    },
  };
}
