/* Runs before anything is painted, so that a chosen theme does not flash. The choice: "light", "dark" or none (the
 * system's). */
"use strict";

(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("sandbox-theme");
  } catch {
    // Storage may be forbidden; then the system's theme is it.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
