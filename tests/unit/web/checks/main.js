/** Runs every check in the page and hands the results to the test that has opened it. */

import { checks } from "./check.js";

async function run() {
  const answer = await fetch("/checks.json");
  for (const file of await answer.json()) await import(`./${file}`);
  const results = {};
  for (const { name, run: check } of checks) {
    try {
      await check();
      results[name] = null;
    } catch (error) {
      results[name] = error.stack ?? String(error);
    }
  }
  return results;
}

const violations = [];
document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI, sourceFile, lineNumber }) => {
  violations.push(`${violatedDirective} ${blockedURI} ${sourceFile}:${lineNumber}`);
});
run()
  .then((results) => ({ results, violations }))
  .catch((error) => ({ results: {}, violations, broken: error.stack ?? String(error) }))
  .then((report) => fetch("/report", { method: "POST", body: JSON.stringify(report) }));
