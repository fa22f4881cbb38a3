/** The head of the page: where one can go, how the connection is, theme, token, keys. */

import { hashOf } from "./addresses.js";
import { element, fill } from "./element.js";
import { showKeys } from "./keyboard.js";
import { onConnection, tryNow } from "./live.js";
import { say } from "./notices.js";
import { authorization, enterToken, forgetToken, onTokenChange } from "./token.js";

const BACK_SHOWN_MS = 4000;
const THEMES = { auto: "Auto", light: "Light", dark: "Dark" };
const STATES = { none: "", connecting: "Connecting…", live: "Live", lost: "Connection lost", refused: "Not live" };

export const PLACES = [
  { path: "tasks", name: "Tasks", key: "t" },
  { path: "submit", name: "Submit", key: "s" },
  { path: "fleet", name: "Fleet", key: "f" },
  { path: "queue", name: "Queue", key: "q" },
];

/** Fill the header; returns {here(path)}, which marks the place that is shown. */
export function pageHeader(header) {
  const links = PLACES.map(({ path, name, key }) =>
    element("a", { href: hashOf([path]), text: name, data: { path }, title: `g ${key}` }),
  );
  const banner = element("div", { class: "banner", role: "status", "aria-live": "assertive", hidden: true });
  fill(
    header,
    element(
      "div",
      { class: "top-inner" },
      element(
        "a",
        { class: "brand", href: hashOf(["tasks"]) },
        element("img", { src: "/assets/icon.svg", alt: "", width: 24, height: 24 }),
        "Sandbox",
      ),
      element("nav", { class: "places", "aria-label": "Places" }, links),
      element("div", { class: "tools" }, connectionShown(banner), tokenButton(), themeChoice(), keysButton()),
    ),
    banner,
  );
  return {
    here(path) {
      for (const link of links) {
        if (link.dataset.path === path) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
      }
    },
  };
}

function connectionShown(banner) {
  const words = element("span");
  const shown = element("span", { class: "connection" }, words);
  let wasLost = false;
  let hiding = null;
  onConnection(({ state, message }) => {
    shown.dataset.state = state;
    words.textContent = STATES[state];
    shown.title = message || STATES[state];
    if (state === "lost" || state === "refused") {
      clearTimeout(hiding);
      banner.dataset.kind = "bad";
      fill(
        banner,
        whatIsLost(state, message),
        element("button", { type: "button", class: "small", text: "Try now", on: { click: tryNow } }),
      );
      banner.hidden = false;
      wasLost = true;
    } else if (state === "live" && wasLost) {
      wasLost = false;
      banner.dataset.kind = "good";
      fill(banner, "Live again: nothing was missed.");
      hiding = setTimeout(() => {
        banner.hidden = true;
      }, BACK_SHOWN_MS);
    }
  });
  return shown;
}

function whatIsLost(state, message) {
  if (state === "refused") return `Not live: ${message}`;
  return `The connection to the server is lost; trying again.${message ? ` ${message}` : ""}`;
}

function tokenButton() {
  const shown = element("span");
  const put = () => {
    const forget = () => {
      forgetToken();
      say("The access token is forgotten.");
    };
    const has = authorization() !== null;
    const words = has ? "Forget token" : "Token…";
    fill(
      shown,
      element("button", {
        type: "button",
        class: "plain small",
        text: words,
        on: { click: has ? forget : () => enterToken() },
      }),
    );
  };
  onTokenChange(put);
  put();
  return shown;
}

function themeChoice() {
  const root = document.documentElement;
  const options = Object.entries(THEMES).map(([value, text]) => element("option", { value, text }));
  const choice = element("select", { "aria-label": "Theme", title: "Theme; Auto: as the system" }, options);
  choice.value = root.dataset.theme ?? "auto";
  choice.addEventListener("change", () => {
    if (choice.value === "auto") delete root.dataset.theme;
    else root.dataset.theme = choice.value;
    try {
      localStorage.setItem("sandbox-theme", choice.value);
    } catch {
      // Then it lasts as long as this page.
    }
  });
  return choice;
}

function keysButton() {
  return element("button", {
    type: "button",
    class: "icon",
    text: "?",
    title: "Keys",
    "aria-label": "Show the keys",
    on: { click: showKeys },
  });
}
