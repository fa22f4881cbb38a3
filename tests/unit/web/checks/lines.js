import { Layout } from "../assets/log-layout.js";
import { Lines, STREAMS } from "../assets/log-lines.js";
import { patternOf, placesIn, Search } from "../assets/log-search.js";
import { rowsOf } from "../assets/text-columns.js";
import { check, equal, numbers, truly } from "./check.js";

const [STDOUT, STDERR] = [0, 1];
const GAP = STREAMS.indexOf("gap");

function filled(count, options) {
  const lines = new Lines(options);
  for (let number = 0; number < count; number++) lines.add(number % 3 ? STDOUT : STDERR, number, `line ${number}`);
  return lines;
}

function caughtUp(lines, wanted, width) {
  const layout = new Layout(lines, wanted, width);
  layout.catchUp();
  return layout;
}

function searched(lines, wanted, text, isCaseSensitive = false) {
  const search = new Search(lines, wanted, text, isCaseSensitive);
  while (!search.isDone) search.step();
  return search;
}

function allFound(search) {
  const found = [];
  for (let next = search.nextTo(-1, 1, true); next && next.number > (found.at(-1) ?? -1); ) {
    found.push(next.number);
    next = search.nextTo(next.number, 1, false);
  }
  return found;
}

check("every line is kept as it came, however many there are", () => {
  const lines = filled(20_000);
  equal([lines.begin, lines.end], [0, 20_000]);
  for (const number of [0, 1, 4095, 4096, 8191, 8192, 19_999]) {
    equal([lines.textOf(number), lines.timeOf(number)], [`line ${number}`, number]);
    equal(lines.streamOf(number), number % 3 ? STDOUT : STDERR);
  }
});

check("the oldest lines are dropped when there are too many, and the others keep their numbers", () => {
  const lines = filled(100_000, { mostLines: 30_000 });
  truly(lines.end - lines.begin <= 30_000 && lines.end - lines.begin > 20_000, "most of what fits is kept");
  equal(lines.textOf(lines.begin), `line ${lines.begin}`);
  equal(lines.textOf(99_999), "line 99999");
});

check("long lines are dropped by their size", () => {
  const lines = new Lines({ mostCharacters: 8 * 1024 * 1024 });
  for (let number = 0; number < 500; number++) lines.add(STDOUT, 0, String(number).padEnd(64 * 1024));
  truly((lines.end - lines.begin) * 64 * 1024 <= 13 * 1024 * 1024, "no more is kept than fits");
  equal(lines.textOf(lines.begin).trim(), String(lines.begin));
});

check("a line may get another text wherever it is kept", () => {
  const lines = filled(10_000);
  const told = [];
  lines.onReplaced = (number) => told.push(number);
  for (const number of [0, 4095, 9000]) {
    lines.replace(number, `begun ${number}`, true);
    equal(lines.textOf(number), `begun ${number}`);
    lines.replace(number, `ended ${number}`, false);
    equal(lines.textOf(number), `ended ${number}`);
    equal(lines.textOf(number + 1), `line ${number + 1}`);
  }
  equal(told, [0, 0, 4095, 4095, 9000, 9000]);
});

check("a line that was dropped cannot be replaced", () => {
  const lines = filled(50_000, { mostLines: 20_000 });
  equal(lines.replace(0, "late", false), false);
});

check("a filter lets the lines of its stream through, and gaps", () => {
  const lines = filled(9);
  lines.add(GAP, 0, "gap");
  const layout = caughtUp(lines, "stderr", 0);
  equal(layout.numbersIn(0, 100), [0, 3, 6, 9]);
  equal([layout.begin, layout.end, layout.count], [0, 4, 4]);
});

check("wrapped lines take as many rows as they need", () => {
  const lines = new Lines();
  for (const text of ["a".repeat(25), "", "b".repeat(10), "c".repeat(11)]) lines.add(STDOUT, 0, text);
  const layout = caughtUp(lines, "all", 10);
  equal(layout.end, 3 + 1 + 1 + 2);
  equal([0, 2, 3, 4, 5, 6].map((row) => layout.placeOf(row)), [
    { number: 0, part: 0 }, { number: 0, part: 2 }, { number: 1, part: 0 },
    { number: 2, part: 0 }, { number: 3, part: 0 }, { number: 3, part: 1 },
  ]);
  equal([0, 1, 2, 3].map((number) => layout.rowOf(number)), [0, 3, 4, 5]);
  equal(layout.numbersIn(2, 2), [0, 1]);
});

check("rows are counted anew when a line that is not the last one grows", () => {
  const lines = new Lines();
  for (const text of ["a", "b", "c"]) lines.add(STDOUT, 0, text);
  const layout = caughtUp(lines, "all", 10);
  lines.onReplaced = (number) => layout.replaced(number);
  lines.replace(0, "a".repeat(35), true);
  layout.catchUp();
  equal([layout.end, layout.rowOf(1)], [6, 4]);
});

check("rows keep their numbers when lines are dropped", () => {
  const lines = new Lines({ mostLines: 20_000 });
  const layout = new Layout(lines, "stdout", 3);
  let rows = 0;
  for (let number = 0; number < 60_000; number++) {
    const text = "x".repeat(number % 7);
    lines.add(number % 2 ? STDOUT : STDERR, 0, text);
    if (number % 2) rows += rowsOf(text.length, 3);
    if (number % 1000 === 999) layout.catchUp();
  }
  equal([layout.end, layout.count], [rows, 30_000]);
  truly(layout.begin > 0, "something was dropped");
  const first = layout.placeOf(layout.begin);
  const isFirst = first.number >= lines.begin && first.number <= lines.begin + 1 && first.part === 0;
  truly(isFirst, "the first row is the first line's");
});

check("a search finds text as it is shown, in every part of the log", () => {
  const lines = filled(20_000);
  lines.replace(5000, "a\x1b[31mNee\x1b[0mdle\x1b]0;needle in a title\x07", false);
  lines.replace(19_999, "needle", false);
  lines.replace(0, "the NEEDLE", false);
  lines.replace(1, "\x1b]0;needle\x07nothing", false);
  equal(allFound(searched(lines, "all", "needle")), [0, 5000, 19_999]);
  equal(allFound(searched(lines, "all", "needle", true)), [19_999]);
  equal(allFound(searched(lines, "stdout", "needle")), [5000, 19_999]);
});

check("what is searched is text, not a pattern", () => {
  const lines = new Lines();
  for (const text of ["a.b", "axb", "(a|b)*[c]\\d+$^/{}?", "日本"]) lines.add(STDOUT, 0, text);
  equal(allFound(searched(lines, "all", "a.b")), [0]);
  equal(allFound(searched(lines, "all", "(a|b)*[c]\\d+$^/{}?")), [2]);
  equal(allFound(searched(lines, "all", "本")), [3]);
});

check("a search goes on with the lines that come, and with those that change", () => {
  const lines = filled(5000);
  const search = searched(lines, "all", "needle");
  lines.onReplaced = (number) => search.replaced(number);
  equal(search.count, 0);
  lines.add(STDOUT, 0, "needle");
  truly(!search.isDone, "there is something to search");
  search.step();
  lines.replace(10, "need", true);
  lines.replace(10, "needle", true);
  equal(allFound(search), [10, 5000]);
  lines.replace(10, "other", false);
  equal(allFound(search), [5000]);
});

check("a search steps on and back, around the ends", () => {
  const lines = filled(100);
  const search = searched(lines, "all", "7");
  equal(search.nextTo(7, 1, true), { number: 7, ordinal: 1 });
  equal(search.nextTo(7, 1, false), { number: 17, ordinal: 2 });
  equal(search.nextTo(7, -1, false), { number: 97, ordinal: 19 });
  equal(search.nextTo(97, 1, false), { number: 7, ordinal: 1 });
  equal(search.nextTo(20, -1, true), { number: 17, ordinal: 2 });
  equal(search.nextTo(17, -1, true), { number: 17, ordinal: 2 });
  equal(searched(lines, "all", "absent").nextTo(0, 1, true), null);
});

check("lines that are dropped are not found any more", () => {
  const lines = new Lines({ mostLines: 20_000 });
  const search = new Search(lines, "all", "line", false);
  for (let number = 0; number < 60_000; number++) {
    lines.add(STDOUT, 0, "line");
    if (number % 500 === 0) search.step();
  }
  while (!search.isDone) search.step();
  search.step();
  equal(search.count, lines.end - lines.begin);
});

check("store, layout and search agree with plain lists, whatever comes", () => {
  const random = numbers(11);
  const chance = (part) => random.next().value < part;
  const lines = new Lines();
  const layout = new Layout(lines, "stdout", 8);
  const search = new Search(lines, "stdout", "x", false);
  lines.onReplaced = (number) => [layout, search].forEach((one) => one.replaced(number));
  const plain = [];
  for (let round = 0; round < 12_000; round++) {
    const text = (chance(0.3) ? "X" : "ab").repeat(Math.floor(random.next().value * 12));
    if (plain.length && chance(0.05)) {
      const number = Math.floor(random.next().value * plain.length);
      plain[number].text = text;
      lines.replace(number, text, chance(0.3));
    } else {
      const stream = chance(0.5) ? STDOUT : STDERR;
      plain.push({ stream, text });
      lines.add(stream, 0, text);
    }
    if (chance(0.01)) search.step();
    if (chance(0.01)) layout.catchUp();
  }
  layout.catchUp();
  while (!search.isDone) search.step();
  const shown = plain.map((one, number) => ({ ...one, number })).filter((one) => one.stream === STDOUT);
  equal(layout.end, shown.reduce((rows, one) => rows + rowsOf(one.text.length, 8), 0));
  equal(layout.numbersIn(0, layout.end), shown.map((one) => one.number));
  equal(allFound(search), shown.filter((one) => /x/i.test(one.text)).map((one) => one.number));
  equal(plain.every((one, number) => lines.textOf(number) === one.text), true);
});

check("places of what is found are told in order and in bounded number", () => {
  equal(placesIn("aXbxcx", patternOf("x", false)), [[1, 2], [3, 4], [5, 6]]);
  equal(placesIn("x".repeat(1000), patternOf("x", false), 5).length, 5);
});
