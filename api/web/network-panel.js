/** What a sandbox sent over the network, and what it was refused. */

import { copyable } from "./copying.js";
import { element, fill } from "./element.js";
import { failure } from "./failure.js";
import { bytesText, numberText } from "./quantities.js";
import { getJson, taskPath } from "./server.js";
import { Throttle } from "./throttle.js";
import { age } from "./times.js";

const RELOAD_MS = 5000;

export function networkPanel(taskId) {
  const shown = element("div", { class: "stack" });
  const loading = new Throttle(RELOAD_MS, async () => {
    try {
      fill(shown, ...parts(await getJson(taskPath(taskId, "network"))));
    } catch (error) {
      fill(
        shown,
        failure(error, () => loading.ask()),
      );
    }
  });
  return {
    element: shown,
    show: () => loading.ask(),
    put: () => shown.offsetParent !== null && loading.ask(),
    close: () => loading.stop(),
  };
}

function parts(found) {
  const hosts = found.allowed_hosts.length ? found.allowed_hosts.join(", ") : "none";
  return [
    element(
      "dl",
      { class: "facts" },
      fact("Mode", found.mode),
      fact("Allowed hosts", found.mode === "outbound" ? hosts : "–"),
      fact("Sent", bytesText(found.bytes_up)),
      fact("Received", bytesText(found.bytes_down)),
    ),
    contacts("Refused", found.denied, "Nothing was refused."),
    found.learned && contacts("Would be refused", found.learned, ""),
    found.suggested_allowed_hosts && suggestion(found.suggested_allowed_hosts),
  ];
}

function suggestion(hosts) {
  const text = ["vm:", "  allowed_hosts:", ...hosts.map((host) => `    - ${JSON.stringify(host)}`)].join("\n");
  return element("section", { class: "panel stack tight" }, element("h2", { text: "To allow them" }), copyable(text));
}

function fact(name, value) {
  return element("div", {}, element("dt", { text: name }), element("dd", { text: value }));
}

function contacts(title, found, none) {
  if (found.length === 0) return none && element("p", { class: "muted", text: none });
  const head = ["Host", "Port", "Rule", "Times", "Last"].map((name) => element("th", { scope: "col", text: name }));
  const rows = found.map((one) =>
    element(
      "tr",
      {},
      element("td", { class: "mono", text: one.host }),
      element("td", { text: one.port }),
      element("td", { class: "mono", text: one.rule }),
      element("td", { text: numberText(one.count) }),
      element("td", { class: "muted nowrap" }, age(one.last_at)),
    ),
  );
  return element(
    "section",
    { class: "panel" },
    element("h2", { text: title }),
    element(
      "div",
      { class: "scroll-x" },
      element("table", {}, element("thead", {}, element("tr", {}, head)), element("tbody", {}, rows)),
    ),
  );
}
