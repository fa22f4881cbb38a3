/* Loads the page again when one of its files does not come: a module that is missing leaves an empty page. A browser
 * breaks off all requests when a network of its machine comes or goes, which on a build host every sandbox makes happen. */
"use strict";

(() => {
  const PAUSES_MS = [500, 1500, 4000, 10000];
  const KEY = "sandbox-loading";
  const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  let isBroken = false;

  /** How often in a row it was in vain; null forgets it. */
  function remember(times) {
    try {
      if (times === null) sessionStorage.removeItem(KEY);
      else sessionStorage.setItem(KEY, String(times));
    } catch {
      // Storage may be forbidden; then every pause is the first one.
    }
  }

  function remembered() {
    try {
      return Number(sessionStorage.getItem(KEY)) || 0;
    } catch {
      return 0;
    }
  }

  function say(text) {
    const place = document.querySelector(".loading");
    if (place) place.textContent = text;
  }

  async function loadAgain(file) {
    isBroken = true;
    const times = remembered();
    remember(times + 1);
    const words = `A file of this page did not come (${file}, or one that it needs). Trying again…`;
    say(words);
    for (let tried = times; ; tried += 1) {
      await pause(PAUSES_MS[Math.min(tried, PAUSES_MS.length - 1)]);
      try {
        // Only a server that answers: the browser's own page about one that does not would not try again.
        if ((await fetch("/", { cache: "no-store" })).ok) break;
      } catch {
        say(`${words} The server does not answer; check that it runs.`);
      }
    }
    location.reload();
  }

  addEventListener(
    "error",
    ({ target }) => {
      const isFile = target instanceof HTMLScriptElement || (target instanceof HTMLLinkElement && target.rel === "stylesheet");
      if (!isFile || isBroken) return;
      loadAgain(new URL(target.src || target.href).pathname);
    },
    true, // such an event does not bubble
  );
  addEventListener("load", () => {
    if (!isBroken) remember(null);
  });
})();
