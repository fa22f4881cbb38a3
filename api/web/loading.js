/* Asks again for files of the page that do not come: a module that is missing leaves an empty page. A browser breaks off
 * all requests when a network of its machine comes or goes, which on a build host every sandbox makes happen. */
"use strict";

(() => {
  const PAUSES_MS = [500, 1500, 4000, 10000];
  const KEY = "sandbox-loading";
  const ANSWER_MS = 10000;
  const FILES = `${location.origin}/assets/`;
  const styles = new Map();
  const pause = (tried) =>
    new Promise((resolve) => setTimeout(resolve, PAUSES_MS[Math.min(tried, PAUSES_MS.length - 1)]));
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
      await pause(tried);
      try {
        // Only a server that answers: the browser's own page about one that does not would not try again.
        const { ok, status } = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
        if (ok) break;
        say(`${words} The server answers ${status}.`);
      } catch {
        say(`${words} The server does not answer; check that it runs.`);
      }
    }
    location.reload();
  }

  /** The page works without; so it stays as it is meanwhile, and at last goes without. */
  async function styleAgain(link) {
    const tried = styles.get(link.href) ?? 0;
    styles.set(link.href, tried + 1);
    if (tried >= PAUSES_MS.length) return;
    await pause(tried);
    link.replaceWith(link.cloneNode());
  }

  addEventListener(
    "error",
    ({ target }) => {
      if (target instanceof HTMLLinkElement && target.href.startsWith(FILES)) styleAgain(target);
      const isModule = target instanceof HTMLScriptElement && target.type === "module" && target.src.startsWith(FILES);
      if (isModule && !isBroken) loadAgain(new URL(target.src).pathname);
    },
    true, // such an event does not bubble
  );
  addEventListener("load", () => {
    if (!isBroken) remember(null);
  });
})();
