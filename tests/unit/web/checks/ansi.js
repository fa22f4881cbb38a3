import { runsOf, visible } from "../assets/ansi.js";
import { check, equal, numbers, truly } from "./check.js";

const styles = (line) => runsOf(line).runs.map(({ text, style }) => [text, style]);

check("a line without escape sequences is one run", () => {
  equal(styles("hello <b>world</b>"), [["hello <b>world</b>", {}]]);
});

check("colours and emphasis begin and end where the sequences say", () => {
  equal(styles("a\x1b[1;31mb\x1b[22mc\x1b[39md"), [
    ["a", {}],
    ["b", { bold: true, foreground: 1 }],
    ["c", { foreground: 1 }],
    ["d", {}],
  ]);
});

check("bright, indexed and true colours are told apart", () => {
  equal(styles("\x1b[97;101mx"), [["x", { foreground: 15, background: 9 }]]);
  equal(styles("\x1b[38;5;9;48;5;196mx"), [["x", { foreground: 9, background: "#ff0000" }]]);
  equal(styles("\x1b[38;5;244mx"), [["x", { foreground: "#808080" }]]);
  equal(styles("\x1b[38;2;1;2;255mx"), [["x", { foreground: "#0102ff" }]]);
  equal(styles("\x1b[38:2::1:2:3mx"), [["x", { foreground: "#010203" }]]);
  equal(styles("\x1b[38:5:3;4mx"), [["x", { foreground: 3, underline: true }]]);
});

check("colours that do not exist are passed over", () => {
  equal(styles("\x1b[38;5;256;1mx"), [["x", { bold: true }]]);
  equal(styles("\x1b[38;2;1;2;999mx"), [["x", {}]]);
  equal(styles("\x1b[38mx\x1b[38;2mx"), [["xx", {}]]);
  equal(styles("\x1b[>4;1mx"), [["x", {}]]);
});

check("sequences that move the cursor, ask or name are dropped", () => {
  equal(visible("a\x1b[2Jb\x1b[?25hc\x1b[10;20Hd\x1b(Be\x1bcf\x1b[6ng"), "abcdefg");
});

check("titles, hyperlinks and other strings are dropped and their text stays", () => {
  equal(visible("\x1b]0;title\x07a\x1b]8;;http://evil.test\x1b\\link\x1b]8;;\x1b\\b\x1bP1$r\x1b\\c"), "alinkbc");
});

check("a string sequence that never ends hides nothing", () => {
  equal(visible("a\x1b]0;all of this stays"), "a0;all of this stays");
});

check("control characters are written out", () => {
  equal(visible("a\x00b\x07c\x08d\x7fe\x9bf\u0085g"), "a\u2400b\u2407c\u2408d\u2421e\\x9bf\\x85g");
});

check("bidi overrides and line separators are written out", () => {
  equal(visible("a\u202eb\u2066c\u2069d\u2028e"), "a\\u202eb\\u2066c\\u2069d\\u2028e");
});

check("tabs go to the next multiple of eight columns", () => {
  equal(visible("\ta\tbc\t\x1b[31m1234567\t8"), "        a       bc      1234567 8");
  equal(visible("日本\tx"), "日本    x");
});

check("a long line is cut between characters, and tells it", () => {
  const { runs, isCut } = runsOf("ab\u{1f600}cd", 3);
  equal([runs, isCut], [[{ text: "ab", style: {} }], true]);
  equal(runsOf("abc", 3).isCut, false);
});

check("a line with very many colours goes on without them", () => {
  const { runs } = runsOf("\x1b[31ma\x1b[32mb".repeat(5000));
  truly(runs.length <= 200, `${runs.length} runs are few`);
  equal(runs.map((run) => run.text).join(""), "ab".repeat(5000));
});

check("the runs of any line together are what is visible of it", () => {
  const pieces = ["\x1b", ..."[31m;]\\aP? ", "\x07", "\t", "日", "\u202e", "\r", "\x9c"];
  const random = numbers(7);
  for (let round = 0; round < 3000; round++) {
    const line = Array.from({ length: 24 }, () => pieces[Math.floor(random.next().value * pieces.length)]).join("");
    equal(runsOf(line).runs.map((run) => run.text).join(""), visible(line));
    const isLeft = /[\x00-\x1f\x7f-\x9f\u202e]/.test(visible(line));
    truly(!isLeft, `nothing that repaints is left of ${JSON.stringify(line)}`);
  }
});

check("lines of nothing but beginnings of sequences are read in time that grows with their length", () => {
  for (const piece of ["\x1b", "\x1b[", "\x1b]", "\x1bP", "\x1b[1;", "\x1b]8;;", "\t", "\x1b[38;5;"]) {
    const line = piece.repeat(64 * 1024 / piece.length);
    truly(visible(line).length <= 8 * line.length, "it ends");
  }
});
