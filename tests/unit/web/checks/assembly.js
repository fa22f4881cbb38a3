import { wordsOf } from "../assets/agent-words.js";
import { Assembly } from "../assets/log-assembly.js";
import { Lines, STREAMS } from "../assets/log-lines.js";
import { check, equal } from "./check.js";

const AT = "2026-03-01T10:00:00.123456Z";

function assembled(...records) {
  const lines = new Lines();
  const assembly = new Assembly(lines);
  for (const [name, body] of records) assembly.take(name, { timestamp: AT, ...body });
  return Array.from({ length: lines.end }, (_, number) => [STREAMS[lines.streamOf(number)], lines.textOf(number)]);
}

const out = (data) => ["stdout", { data }];
const err = (data) => ["stderr", { data }];

check("a record of output is a line", () => {
  equal(assembled(out("a\n"), err("b\n"), out("\n")), [["stdout", "a"], ["stderr", "b"], ["stdout", ""]]);
});

check("a line that comes in pieces stays where it began", () => {
  equal(assembled(out("Pass"), err("x\n"), out("word: "), err("y\n"), out("ok\n"), out("z\n")), [
    ["stdout", "Password: ok"], ["stderr", "x"], ["stderr", "y"], ["stdout", "z"],
  ]);
});

check("a line that has no end yet is shown", () => {
  equal(assembled(out("Password: ")), [["stdout", "Password: "]]);
});

check("what one attempt left unfinished is not the next one's beginning", () => {
  const running = ["event", { type: "state_change", attempt: 1, new_state: "running" }];
  const pending = ["event", { type: "state_change", attempt: 2, new_state: "pending", state_message: null }];
  equal(assembled(running, out("a"), pending, out("b\n")), [
    ["event", "running"], ["stdout", "a"], ["event", "pending"], ["stdout", "b"],
  ]);
});

check("of a line with carriage returns the last segment is shown", () => {
  const shown = assembled(out("10%\r50%\r100%\n"), out("dos\r\n"), out("a\r\r\n"));
  equal(shown, [["stdout", "100%"], ["stdout", "dos"], ["stdout", "a"]]);
});

check("a progress bar that comes in pieces is one line", () => {
  equal(assembled(out("10%\r")), [["stdout", "10%"]]);
  equal(assembled(out("10%\r"), out("5"), out("0%\r"), out("100%"), out("\n")), [["stdout", "100%"]]);
});

check("a line without an end is broken after 64 KiB", () => {
  const pieces = assembled(...Array.from({ length: 3 }, () => out("x".repeat(64 * 1024))), out("end\n"));
  equal(pieces.map(([, text]) => text.length), [64 * 1024, 64 * 1024, 64 * 1024, 3]);
});

check("system lines, gaps, states and artifacts are told in words", () => {
  equal(
    assembled(
      ["system", { data: "cloning\nslowly\n" }],
      ["gap", { message: "12 bytes were dropped", attempt: 1 }],
      ["event", { type: "state_change", new_state: "failed", state_message: "exit code 3", attempt: 1 }],
      ["event", { type: "artifact", artifact: { path: "a/b.txt", size_bytes: 12 }, attempt: 1 }],
      ["event", { type: "of_another_version", seq: 1, stream: "event", attempt: 1, value: 5 }],
    ),
    [
      ["system", "cloning"],
      ["system", "slowly"],
      ["gap", "gap: 12 bytes were dropped"],
      ["event", "failed: exit code 3"],
      ["event", "artifact a/b.txt (12 bytes)"],
      ["event", '{"type":"of_another_version","value":5}'],
    ],
  );
});

check("what an agent tells is put in the words that text and terminals have", async () => {
  const answer = await fetch("/agent-words.json");
  const told = await answer.json();
  for (const { body, lines } of told) equal(wordsOf(body), lines);
});
