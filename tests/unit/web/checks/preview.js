import { previewOf } from "../assets/preview.js";
import { check, equal, truly, until } from "./check.js";

const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAIAAAA2iEnWAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg==";
const HOSTILE = '<img src=x onerror="window.wasRun=true"><script>window.wasRun=true</script>';

function bytesOf(text) {
  return new TextEncoder().encode(text);
}

function preview(name, bytes, contentType = "application/octet-stream") {
  const all = typeof bytes === "string" ? bytesOf(bytes) : bytes;
  const fetchBytes = async (limit) => ({ bytes: all.subarray(0, limit), truncated: all.length > limit });
  return previewOf({ name, contentType, sizeBytes: all.length, fetchBytes });
}

const textOf = async (...file) => (await preview(...file)).textContent;
const loaded = (shown) => [...shown.querySelectorAll("img, script, iframe, object, embed, link, style")];

check("text is shown with the numbers of its lines", async () => {
  const shown = await preview("a.txt", "one\r\ntwo\n");
  equal(shown.querySelector(".preview-numbers").textContent, "1\n2");
  equal(shown.querySelector(".preview-lines").textContent, "one\ntwo");
});

check("HTML in a file is text, whatever the file is called", async () => {
  for (const name of ["a.html", "a.txt", "a.md", "a.json", "a.svg", "a.patch", "a.bin"]) {
    const shown = await preview(name, HOSTILE, "text/html");
    document.body.append(shown);
    equal(loaded(shown).length, 0);
    truly(shown.textContent.includes("onerror"), `the text of ${name} is there`);
    shown.remove();
  }
  equal(window.wasRun, undefined);
});

check("characters that would repaint or reorder are written out", async () => {
  truly((await textOf("a.txt", "a\u202eb\x1b[31mc")).includes("a\\u202eb\u241b[31mc"), "they are");
});

check("long files and long lines are cut, and it is told", async () => {
  truly((await textOf("a.txt", "x\n".repeat(30_000))).includes("10,000 more lines not shown"), "lines are counted");
  const long = await textOf("a.txt", "x".repeat(1_500_000));
  truly(long.includes("Only the first 1 MiB of 1.4 MiB"), "bytes are counted");
});

check("JSON is a tree that opens", async () => {
  const shown = await preview("a.json", '{"a": {"b": [1, "<b>", null]}, "big": 12345678901234567890}');
  const [first, second, third] = shown.querySelectorAll("details");
  equal([first.open, second.open, third.open], [true, true, false]);
  third.open = true;
  await until(() => shown.textContent.includes('"<b>"'), "what is opened is made");
  truly(!shown.textContent.includes("12345678901234567000"), "a number is shown as it was written");
});

check("JSON that is very wide or deep, or none, does no harm", async () => {
  const wide = await preview("a.json", JSON.stringify(Array(50_000).fill(0)));
  truly(wide.querySelectorAll("*").length < 500, "only the first items are made");
  truly((await textOf("a.json", "[".repeat(100_000))).includes("no JSON that can be read"), "deep nesting is text");
  truly((await textOf("a.json", "{oops")).includes("{oops"), "what is no JSON is text");
});

check("Markdown is laid out, and links lead to the web alone", async () => {
  const links = "[a](javascript:alert(1)) [b](https://b.test/) ![c](https://c.test/d.png)";
  const shown = await preview("a.md", `# T\n\n${links}\n\n- [x] e`);
  equal(shown.querySelector("h1").textContent, "T");
  const found = [...shown.querySelectorAll("a")].map((one) => [one.href, one.target, one.rel.includes("noopener")]);
  equal(found, [["https://b.test/", "_blank", true]]);
  equal(loaded(shown).length, 0);
  truly(shown.textContent.includes("[picture: c]"), "a picture is named");
});

check("a diff is coloured by its lines", async () => {
  const shown = await preview("a.patch", "diff --git a/b a/b\n--- a/b\n+++ a/b\n@@ -1 +1 @@\n-old\n+new\n same\n");
  const kinds = [...shown.querySelectorAll(".diff-line")].map((one) => one.classList[1].slice(5));
  equal(kinds, ["head", "head", "head", "place", "removed", "added", "same"]);
});

check("a picture is known by its first bytes and shown with its size", async () => {
  const bytes = Uint8Array.from(atob(PNG), (character) => character.charCodeAt(0));
  const shown = await preview("misnamed.txt", bytes, "text/plain");
  truly(shown.querySelector("img").src.startsWith("blob:"), "it comes from memory");
  truly(shown.textContent.includes("PNG, 2 × 3"), shown.textContent);
});

check("a drawing with a script in it is shown as an image, which runs none", async () => {
  const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="5"><script>parent.wasRun=true</script></svg>';
  const shown = await preview("a.svg", svg, "image/svg+xml");
  document.body.append(shown);
  equal([loaded(shown).map((one) => one.tagName), window.wasRun], [["IMG"], undefined]);
  shown.remove();
});

check("a damaged picture is told to be one", async () => {
  const damaged = Uint8Array.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 1, 2]);
  truly((await textOf("a.png", damaged)).includes("damaged"), "it is");
});

check("what is no text is shown as bytes", async () => {
  const shown = await textOf("a.bin", Uint8Array.from([0, 1, 2, 65, 66, 255]));
  truly(shown.includes("00000000  00 01 02 41 42 ff") && shown.includes("···AB·"), shown);
  equal(await textOf("a.bin", new Uint8Array()), "The file is empty.");
});
