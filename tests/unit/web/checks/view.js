/** The log's panel with its worker, against the logs that `log_server.py` makes up. */

import { logView } from "../assets/log-view.js";
import { check, equal, truly, until } from "./check.js";

/** Show the log of a task of `log_server.py`; `test` gets what a reader sees and does. */
async function shown(taskId, test) {
  let state = { lines: 0, live: false, ended: false };
  const view = logView({ taskId, attempt: null, authorization: null, onState: (now) => (state = now) });
  document.body.append(view.element);
  const { element } = view;
  const reader = {
    view,
    element,
    viewport: element.querySelector(".log-viewport"),
    get state() {
      return state;
    },
    get rows() {
      return [...element.querySelectorAll(".log-row")];
    },
    /** The text of the rows that lie wholly within the panel. */
    get seen() {
      const { top, bottom } = this.viewport.getBoundingClientRect();
      const isInside = (box) => box.top >= top - 1 && box.bottom <= bottom + 1;
      return this.rows.filter((row) => isInside(row.getBoundingClientRect())).map((row) => row.textContent);
    },
    button: (name) => [...element.querySelectorAll("button")].find((one) => one.textContent === name),
    press(key) {
      reader.viewport.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
    },
    type(text) {
      const field = element.querySelector(".log-search");
      field.value = text;
      field.dispatchEvent(new Event("input"));
    },
    sees: (text) => until(() => reader.seen.includes(text), `"${text}" is seen`),
    holds: (count) => until(() => state.lines === count, `${count} lines came`),
    scrollTo: (part) => {
      const { viewport } = reader;
      viewport.scrollTop = (viewport.scrollHeight - viewport.clientHeight) * part;
    },
    /** Go down page by page; `visit` gets the rows that are seen. A page is there when it is full. */
    async eachPage(visit) {
      const full = reader.seen.length - 1;
      visit(reader.seen);
      while (!reader.isFollowing) {
        const [top] = reader.rows;
        reader.press("PageDown");
        await until(() => reader.rows[0] !== top && reader.seen.length >= full, "the next page is seen");
        visit(reader.seen);
      }
    },
    get isFollowing() {
      return reader.button("Follow").getAttribute("aria-pressed") === "true";
    },
  };
  try {
    await test(reader);
  } finally {
    view.destroy();
  }
}

const more = (taskId, count) => fetch(`/more?task=${taskId}&count=${count}`, { method: "POST" });

check("a million lines are shown in few elements, from the first to the last", () =>
  shown("lines-1000000", async (log) => {
    const count = 1_000_000;
    await until(() => log.state.lines > 0, "lines come");
    while (!log.state.ended) {
      truly(log.element.querySelectorAll("*").length < 300, "there are few elements");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    equal(log.state.lines, count + 1);
    log.press("End");
    await log.sees(`line ${count}`);
    log.press("Home");
    await log.sees("line 1");
    log.scrollTo(0.5);
    const isNearMiddle = (text) => Math.abs(Number(text.slice(5)) - count / 2) < 2000;
    await until(() => log.seen.some(isNearMiddle), "the middle is seen");
    log.scrollTo(1);
    await log.sees(`line ${count}`);
    log.type("LINE 77777");
    await until(() => log.element.querySelector(".log-matches").textContent === "11 lines", "all are found");
    log.press("Home");
    await log.sees("line 1");
    log.press("n");
    await log.sees("line 77777");
    equal(log.element.querySelector(".is-current").textContent, "line 77777");
    log.press("n");
    await log.sees("line 777770");
    log.press("N");
    await log.sees("line 77777");
    equal(log.element.querySelector(".log-matches").textContent, "1 of 11");
    truly(log.element.querySelectorAll("*").length < 300, "there are few elements");
  }));

check("a connection that is cut loses no line and repeats none", () =>
  shown("cut-5000", async (log) => {
    await until(() => log.state.ended, "the log ends");
    equal(log.state.lines, 5001);
    log.press("Home");
    await log.sees("line 1");
    const seen = new Set();
    await log.eachPage((texts) => texts.forEach((text) => seen.add(text)));
    equal([...seen].filter((text) => text.startsWith("line")).length, 5000);
  }));

check("while the connection is away the panel says so, and then goes on", () =>
  shown("away-10", async (log) => {
    await until(() => /connection lost/.test(log.element.querySelector(".log-note").textContent), "it is told");
    await until(() => log.state.ended, "the log ends");
    equal([log.state.lines, log.element.querySelector(".log-note").hidden], [11, true]);
  }));

check("the end is followed until somebody scrolls up, and new lines are counted", () =>
  shown("open-follow", async (log) => {
    await more("open-follow", 500);
    await log.sees("line 500");
    await more("open-follow", 100);
    await log.sees("line 600");
    truly(log.isFollowing, "it follows");
    log.scrollTo(0.5);
    await log.sees("line 300");
    truly(!log.isFollowing, "it stays where the reader is");
    const before = log.seen;
    await more("open-follow", 1234);
    await until(() => log.button("1,234 new lines ↓")?.hidden === false, "new lines are counted");
    equal(log.seen, before);
    log.button("1,234 new lines ↓").click();
    await log.sees("line 1834");
    log.press("f");
    truly(!log.isFollowing, "f pauses");
    log.press("f");
    truly(log.isFollowing, "and follows again");
  }));

check("the wheel leaves the end at once", () =>
  shown("open-wheel", async (log) => {
    await more("open-wheel", 500);
    await log.sees("line 500");
    log.viewport.dispatchEvent(new WheelEvent("wheel", { deltaY: -120, cancelable: true, bubbles: true }));
    truly(!log.isFollowing, "it does");
  }));

check("keys go by rows and pages", () =>
  shown("lines-2000", async (log) => {
    await until(() => log.state.ended, "the log ends");
    log.press("Home");
    await log.sees("line 1");
    log.press("ArrowDown");
    await until(() => log.seen[0] === "line 2", "one row on");
    log.press("ArrowUp");
    await until(() => log.seen[0] === "line 1", "one row back");
    const page = log.seen.length;
    log.press("PageDown");
    await until(() => log.seen[0] !== "line 1", "a page on");
    truly(Math.abs(Number(log.seen[0].slice(5)) - page) <= 2, log.seen[0]);
    log.press("s");
    truly(document.activeElement === log.element.querySelector(".log-search"), "s goes to the search");
  }));

check("a stream is shown alone, and the others come back", () =>
  shown("hostile", async (log) => {
    await until(() => log.state.ended, "the log ends");
    log.view.setStream("stderr");
    await until(() => log.rows.every((row) => row.dataset.stream === "stderr") && log.rows.length, "stderr is alone");
    log.view.setStream("all");
    await until(() => new Set(log.rows.map((row) => row.dataset.stream)).size > 2, "all are there");
  }));

check("what a task prints is text, with its colours, and runs nothing", () =>
  shown("hostile", async (log) => {
    await until(() => log.state.ended, "the log ends");
    const text = log.rows.map((row) => row.textContent).join("\n");
    truly(text.includes('<img src=x onerror="window.wasRun=true">'), "HTML is text");
    truly(text.includes("\\u202e"), "overrides are written out");
    equal(log.element.querySelectorAll("img, script, a[href^=javascript]").length, 0);
    const red = [...log.element.querySelectorAll(".ansi-fg-1")].find((one) => one.textContent === "red");
    truly(red && getComputedStyle(red).color !== getComputedStyle(log.rows[0]).color, "red is red");
    const own = log.element.querySelector(".ansi-fg");
    equal(getComputedStyle(own).color, "rgb(1, 2, 3)");
    equal(window.wasRun, undefined);
  }));

check("a very long line is cut until all of it is wanted", () =>
  shown("hostile", async (log) => {
    await until(() => log.state.ended, "the log ends");
    const row = () => log.rows.find((one) => one.textContent.startsWith("xxxx"));
    truly(row().textContent.length < 5000, "it is cut");
    row().querySelector(".log-more").click();
    await until(() => row().textContent.length === 60_000, "all of it is there");
  }));

check("lines are wrapped into rows of one height, and nothing of them is lost", () =>
  shown("hostile", async (log) => {
    await until(() => log.state.ended, "the log ends");
    log.button("Wrap").click();
    await until(() => log.rows.some((row) => Number(row.dataset.part) > 3), "rows are parts of lines");
    equal(new Set(log.rows.map((row) => row.getBoundingClientRect().height)).size, 1);
    truly(log.viewport.scrollWidth <= log.viewport.clientWidth, "nothing is to the side");
    const parts = new Map();
    log.press("Home");
    await until(() => log.rows[0].textContent.startsWith("<img"), "the beginning is seen");
    await log.eachPage(() => {
      for (const row of log.rows) if (row.textContent.startsWith("x")) parts.set(row.dataset.part, row.textContent);
    });
    equal([...parts.values()].join("").length, 60_000);
  }));

check("times are shown beside the lines and never copied", () =>
  shown("lines-10", async (log) => {
    await until(() => log.state.ended, "the log ends");
    log.button("Times").click();
    truly(getComputedStyle(log.rows[0], "::before").content.includes(":"), "a time is shown");
    const selection = document.getSelection();
    selection.setBaseAndExtent(log.rows[0].firstChild, 0, log.rows[2].firstChild, 6);
    await until(() => !log.isFollowing, "what is selected stays");
    const data = new DataTransfer();
    log.rows[1].dispatchEvent(new ClipboardEvent("copy", { clipboardData: data, bubbles: true, cancelable: true }));
    equal(data.getData("text/plain"), "line 1\nline 2\nline 3");
    selection.removeAllRanges();
  }));

check("a refusal is told in the server's words", () =>
  shown("refused", async (log) => {
    await until(() => !log.element.querySelector(".log-note").hidden, "something is told");
    truly(log.element.querySelector(".log-note").textContent.startsWith("there is no task 'refused'"), "it is");
    truly(log.button("Try again"), "one may try again");
  }));

check("another attempt takes the place of the first", () =>
  shown("lines-10", async (log) => {
    await until(() => log.state.ended, "the log ends");
    log.view.setAttempt(2);
    await log.sees("attempt 2");
  }));
