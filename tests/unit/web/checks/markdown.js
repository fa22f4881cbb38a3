import { parse, parseInline } from "../assets/markdown.js";
import { check, equal, truly } from "./check.js";

const kinds = (text) => parse(text).map((block) => block.kind);
const paragraph = (...inline) => ({ kind: "paragraph", inline });

check("headings, paragraphs, rules and quotes are told apart", () => {
  equal(kinds("# a\n\nb\nc\n\n---\n> d\n> e\n\nf\n===\n"), ["heading", "paragraph", "rule", "quote", "heading"]);
  equal(parse("## a b ##"), [{ kind: "heading", level: 2, inline: ["a b"] }]);
});

check("code is kept as it is", () => {
  equal(parse("```js\n# *a*\n\n```\n"), [{ kind: "code", language: "js", text: "# *a*\n" }]);
  equal(parse("    a\n\n      b\n"), [{ kind: "code", language: "", text: "a\n\n  b" }]);
  equal(parse("~~~\n```\n"), [{ kind: "code", language: "", text: "```\n" }]);
});

check("lists nest, are numbered, and have tasks", () => {
  const [list] = parse("3. a\n4. b\n   - c\n     more\n   - [x] d\n");
  equal([list.ordered, list.start, list.items.length], [true, 3, 2]);
  const inner = list.items[1].blocks[1];
  equal(inner.items, [
    { isDone: null, blocks: [paragraph("c\nmore")] },
    { isDone: true, blocks: [paragraph("d")] },
  ]);
});

check("a table has cells of text, one for each column", () => {
  const [table] = parse("| a | b |\n|:-:|--:|\n| 1 | x\\|y | z |\n| 2 |\n");
  equal([table.head, table.aligned], [[["a"], ["b"]], ["center", "right"]]);
  equal(table.rows, [[["1"], ["x|y"]], [["2"], []]]);
});

check("emphasis closes what it opened", () => {
  equal(parseInline("a **b *c* d** `*e*` ~~f~~"), [
    "a ",
    { kind: "strong", inline: ["b ", { kind: "em", inline: ["c"] }, " d"] },
    " ", { kind: "code", text: "*e*" }, " ", { kind: "del", inline: ["f"] },
  ]);
  equal(parseInline("2 * 3 * 4, snake_case_name, **open, \\*no\\*"), ["2 * 3 * 4, snake_case_name, **open, *no*"]);
});

check("links, addresses and pictures are told apart", () => {
  equal(parseInline("[a *b*](http://c.test/d_(e) \"f\") https://g.test/h). ![i](http://j.test/k.png)"), [
    { kind: "link", address: "http://c.test/d_(e)", inline: ["a ", { kind: "em", inline: ["b"] }] },
    " ", { kind: "link", address: "https://g.test/h", inline: ["https://g.test/h"] }, "). ",
    { kind: "image", alt: "i", address: "http://j.test/k.png" },
  ]);
});

check("HTML is text", () => {
  equal(parse("<img src=x onerror=alert(1)>"), [paragraph("<img src=x onerror=alert(1)>")]);
});

check("no text takes long, whatever it is made of", () => {
  const pieces = [
    "[", "*", "*a ", "![", "[a](", "> ", "- ", "\\", "_a_", "| ", "# #", "http://a).", "- a\n", "1. a\n\n", "a\n",
    "a  \n", "`a``", "~~a", "- - - ", "<http://", "[x](<", "**a*b", "\n> > - a",
  ];
  for (const piece of pieces) truly(parse(piece.repeat(20_000)).length >= 0, piece);
});

check("what is nested very deep is text in the end", () => {
  let depth = 0;
  for (let blocks = parse("> ".repeat(500) + "x"); blocks; blocks = blocks[0]?.blocks) depth++;
  truly(depth <= 14, `${depth} is not deep`);
});
