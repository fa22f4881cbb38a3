/** The page: which view is shown at which address. */

import { hashOf, parseHash } from "./addresses.js";
import { element, fill } from "./element.js";
import { fleetPage } from "./fleet.js";
import { PLACES, pageHeader } from "./header.js";
import { listenToKeys } from "./keyboard.js";
import { queuePage } from "./queue.js";
import { submitPage } from "./submit.js";
import { taskList } from "./task-list.js";
import { taskPage } from "./task-page.js";
import { askAgain, onTokenChange } from "./token.js";

const VIEWS = { submit: submitPage, fleet: fleetPage, queue: queuePage };

const main = document.getElementById("main");
const header = pageHeader(document.querySelector(".top"));
let shown = null;

function viewAt({ path, query }) {
  const [place, taskId, ...rest] = path;
  if (place === "tasks" && taskId && !rest.length) return taskPage({ taskId, query });
  if (place === "tasks" && !taskId) return taskList({ query });
  if (VIEWS[place] && !taskId) return VIEWS[place]({ query });
  return nowhere();
}

function show({ isFirst = false } = {}) {
  if (!location.hash || location.hash === "#/") {
    location.replace(hashOf(["tasks"]));
    return;
  }
  const address = parseHash(location.hash);
  shown?.close();
  askAgain();
  shown = viewAt(address);
  fill(main, shown.element);
  document.title = `${shown.title} · Sandbox`;
  header.here(address.path[0]);
  if (!shown.keepsScroll) scrollTo(0, 0);
  if (!isFirst) main.querySelector("h1")?.focus({ preventScroll: true }); // a screen reader begins there
}

function nowhere() {
  const link = element("a", { class: "button", href: hashOf(["tasks"]), text: "To the tasks" });
  const said = element(
    "div",
    { class: "panel empty" },
    element("h1", { text: "There is nothing here", tabindex: "-1" }),
    link,
  );
  return { element: said, title: "Nothing here", keys: {}, close() {} };
}

listenToKeys(
  () => shown?.keys ?? {},
  (letter) => {
    const place = PLACES.find((one) => one.key === letter);
    if (place) location.hash = hashOf([place.path]);
    return Boolean(place);
  },
);
history.scrollRestoration = "manual"; // each place knows where it was; the browser would scroll before the rows are there
addEventListener("hashchange", () => show());
// A browser may keep a page that one has left, with all its connections, and it opens only six of them to one server.
addEventListener("pagehide", () => {
  shown?.close();
  shown = null;
});
addEventListener("pageshow", (event) => event.persisted && show());
onTokenChange(() => show());
show({ isFirst: true });
