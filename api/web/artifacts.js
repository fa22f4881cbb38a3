/** The artifacts of an attempt: list, preview, download, all of them at once. */

import { downloadLink, firstBytes } from "./downloading.js";
import { element, fill } from "./element.js";
import { failure } from "./failure.js";
import { previewOf } from "./preview.js";
import { bytesText, countText } from "./quantities.js";
import { addressOf, getJson, taskPath } from "./server.js";
import { Throttle } from "./throttle.js";
import { age } from "./times.js";

const RELOAD_MS = 1000;

/** `attempt()`: the one that is looked at, null for the latest. `onCount(n)`. Has `reload()`. */
export function artifactsPanel(taskId, attempt, onCount) {
  const table = element("table", { class: "cards artifacts" }, head());
  const above = element("div", { class: "row between" });
  const trouble = element("div");
  const panel = element(
    "div",
    { class: "stack" },
    trouble,
    above,
    element("div", { class: "panel table-panel" }, table),
  );
  const rows = new Map();
  const loading = new Throttle(RELOAD_MS, load);

  async function load() {
    try {
      show(await getJson(taskPath(taskId, "artifacts"), { query: { attempt: attempt() } }));
      fill(trouble);
    } catch (error) {
      fill(
        trouble,
        failure(error, () => loading.ask()),
      );
    }
  }

  function show({ artifacts, total_count: count, total_size_bytes: size }) {
    onCount(count);
    table.parentElement.hidden = count === 0;
    if (count === 0) {
      fill(
        above,
        element("p", {
          class: "muted",
          text: "There are no artifacts. Files that match lifecycle.artifact_patterns are stored when an attempt ends.",
        }),
      );
    } else {
      const whole = addressOf(taskPath(taskId, "artifacts.tar.gz"), { attempt: attempt() });
      fill(
        above,
        element("p", { class: "muted", text: `${countText(count, "file")}, ${bytesText(size)}` }),
        downloadLink(whole, `${taskId}-artifacts.tar.gz`, { words: "All as .tar.gz" }),
      );
    }
    const keys = new Set(artifacts.map(keyOf));
    for (const [key, row] of rows) {
      if (keys.has(key)) continue;
      row.remove();
      rows.delete(key);
    }
    for (const one of artifacts) {
      const key = keyOf(one);
      if (!rows.has(key)) rows.set(key, artifactRow(one));
      table.append(rows.get(key));
    }
  }

  loading.ask();
  return { element: panel, reload: () => loading.ask(), close: () => loading.stop() };
}

function keyOf(one) {
  return JSON.stringify([one.path, one.checksum]);
}

function head() {
  const names = ["File", "Size", "Stored", ""];
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

/** Two rows: the file, and below it, once somebody wants it, a look at it. */
function artifactRow(one) {
  const shown = element("td", { class: "preview wide", colspan: 4, hidden: true });
  const look = element("button", {
    type: "button",
    class: "small",
    text: "Preview",
    "aria-expanded": "false",
    "aria-label": `Preview: ${one.path}`,
  });
  look.addEventListener("click", async () => {
    shown.hidden = !shown.hidden;
    look.setAttribute("aria-expanded", String(!shown.hidden));
    look.textContent = shown.hidden ? "Preview" : "Close";
    if (!shown.hidden && !shown.hasChildNodes()) await preview(shown, one);
  });
  const hash = one.checksum.replace(/^sha256:/, "");
  const about = `${one.content_type} · sha256 ${hash.slice(0, 12)}…`;
  const row = element(
    "tr",
    {},
    element(
      "td",
      { class: "wide" },
      element("div", { class: "mono", text: one.path }),
      element("div", { class: "muted small", title: `SHA-256 ${hash}`, text: about }),
    ),
    element("td", { class: "nowrap", text: bytesText(one.size_bytes) }),
    element("td", { class: "muted nowrap" }, age(one.created_at)),
    element(
      "td",
      {},
      element("div", { class: "row" }, look, downloadLink(one.download_url, one.name, { names: "button small" })),
    ),
  );
  return element("tbody", {}, row, element("tr", {}, shown));
}

async function preview(into, one) {
  fill(into, element("p", { class: "muted", text: "Loading…" }));
  const fetchBytes = (limit) => firstBytes(one.download_url, one.size_bytes, limit);
  try {
    const { name, content_type: contentType, size_bytes: sizeBytes } = one;
    fill(into, await previewOf({ name, contentType, sizeBytes, fetchBytes }));
  } catch (error) {
    fill(
      into,
      failure(error, () => preview(into, one)),
    );
  }
}
