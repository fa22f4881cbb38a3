/** What failed, in the server's words, with what can be done about it here. */

import { element } from "./element.js";
import { enterToken } from "./token.js";

/** `again`: what is done when somebody presses "Try again". */
export function failure(error, again) {
  const isRefusedToken = error.status === 401;
  return element(
    "div",
    { class: "callout", data: { kind: "bad" }, role: "alert" },
    element("p", { text: error.message }),
    error.requestId && element("p", { class: "muted small", text: `Request ${error.requestId}` }),
    element(
      "div",
      { class: "row" },
      isRefusedToken &&
        element("button", { type: "button", text: "Enter an access token", on: { click: () => enterToken() } }),
      again && element("button", { type: "button", text: "Try again", on: { click: again } }),
    ),
  );
}
