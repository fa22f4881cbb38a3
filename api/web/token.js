/** The access token, kept for as long as this tab is open, and the dialog that asks for it. */

import { showDialog } from "./dialogs.js";
import { element } from "./element.js";

const KEY = "sandbox-token";
const listeners = new Set();
let asking = null;
let declined = false;
let token = stored();

/** The value of the `Authorization` header, or null where no token is set. */
export function authorization() {
  return token ? `Bearer ${token}` : null;
}

/** Call the listener whenever a token was set or forgotten. */
export function onTokenChange(listener) {
  listeners.add(listener);
}

/** Let the dialog come again by itself, after somebody has closed it without a token. */
export function askAgain() {
  declined = false;
}

/**
 * The server wants a token: ask for one, once however many requests want it. True when there is another one now than
 * `used`, which was refused.
 */
export async function tokenWanted(message, used) {
  if (authorization() !== used) return true;
  if (declined) return false;
  asking ??= ask(message).finally(() => {
    asking = null;
  });
  return asking;
}

/** Ask because somebody wants to give one. */
export async function enterToken() {
  declined = false;
  asking ??= ask("").finally(() => {
    asking = null;
  });
  return asking;
}

export function forgetToken() {
  set(null);
}

async function ask(message) {
  const field = element("input", {
    type: "password",
    name: "token",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    "aria-describedby": "token-why",
  });
  const given = await showDialog({
    title: "Access token",
    confirm: "Use this token",
    cancel: "Not now",
    body: [
      element("p", { id: "token-why", text: message || "The token is sent with every request of this tab." }),
      element("label", {}, "Token", field),
      element("p", {
        class: "muted small",
        text:
          "It is kept in this tab only, until it is closed. Operators make one with: " +
          "sandbox token create NAME --owner WHO",
      }),
    ],
    read: () => field.value.trim(),
  });
  declined = !given;
  if (given) set(given);
  return Boolean(given);
}

function set(value) {
  token = value;
  try {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  } catch {
    // Without storage it is kept in memory, until the tab is loaded anew.
  }
  for (const listener of listeners) listener();
}

function stored() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}
