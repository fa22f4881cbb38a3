import { columnsOf, rowsOf, rowStarts } from "../assets/text-columns.js";
import { check, equal, numbers } from "./check.js";

check("wide characters take two columns and combining ones none", () => {
  equal(["abc", "日本語", "e\u0301", "\u{1f600}", ""].map(columnsOf), [3, 6, 1, 2, 0]);
});

check("a line is broken after so many columns", () => {
  equal(rowStarts("abcdefg", 3), [0, 3, 6, 7]);
  equal(rowStarts("abc", 3), [0, 3]);
  equal(rowStarts("", 3), [0, 0]);
  equal(rowStarts("abc", 0), [0, 3]);
});

check("a wide character stays in the row in which it begins", () => {
  equal(rowStarts("ab日本", 3), [0, 3, 4]);
});

check("rows can be counted without looking at the text", () => {
  const random = numbers(3);
  const letters = ["a", "b", "日", "e\u0301", "\u{1f600}", " "];
  for (let round = 0; round < 500; round++) {
    const text = Array.from({ length: 40 }, () => letters[Math.floor(random.next().value * letters.length)]).join("");
    const width = 2 + Math.floor(random.next().value * 30);
    const [counted, made] = [rowsOf(columnsOf(text), width), rowStarts(text, width).length - 1];
    equal([text, made <= counted, counted - made <= 1], [text, true, true]);
  }
});
