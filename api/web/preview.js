/**
 * A look at an artifact: text, JSON, Markdown, a diff, a picture, or the first bytes of anything else. What a task has
 * made is untrusted: it comes onto the page as text, or as the pixels of an image, and in bounded amounts.
 */

import { escaped } from "./ansi.js";
import { element } from "./element.js";
import { jsonTree } from "./json-tree.js";
import { markdown } from "./markdown.js";
import { bytesText, countText } from "./quantities.js";

const MOST_TEXT_BYTES = 1024 * 1024;
const MOST_PICTURE_BYTES = 32 * 1024 * 1024;
const MOST_MARKDOWN_CHARACTERS = 256 * 1024;
const MOST_LINES = 20_000;
const MOST_DIFF_LINES = 5000;
/** Of one line: a browser takes seconds for a line of a million. */
const MOST_LINE_CHARACTERS = 5000;
const HEX_BYTES = 512;
const LOOKED_AT_BYTES = 8192;

/** By their first bytes, in Latin-1, the pictures that are shown. */
const PICTURES = [
  [/^\x89PNG\r\n\x1a\n/, "image/png"],
  [/^\xff\xd8\xff/, "image/jpeg"],
  [/^GIF8[79]a/, "image/gif"],
  [/^RIFF[^]{4}WEBP/, "image/webp"],
];

/**
 * The preview as an element. `fetchBytes(limit)` resolves to {bytes: Uint8Array, truncated} with at most `limit` bytes;
 * what it raises passes through.
 */
export async function previewOf({ name, contentType, sizeBytes, fetchBytes }) {
  const file = { name, type: contentType.split(";")[0].trim().toLowerCase(), sizeBytes };
  const { bytes, truncated } = await fetchBytes(MOST_TEXT_BYTES);
  if (!bytes.length) return note("The file is empty.");
  const type = pictureType(bytes) ?? (isSvg(file, bytes) ? "image/svg+xml" : null);
  if (type) return picture(file, type, truncated ? await fetchBytes(MOST_PICTURE_BYTES) : { bytes, truncated });
  const text = textOf(bytes);
  return text === null ? hexHead(bytes, sizeBytes) : textual(file, text, truncated);
}

function pictureType(bytes) {
  const head = String.fromCharCode(...bytes.subarray(0, 16));
  return PICTURES.find(([pattern]) => pattern.test(head))?.[1] ?? null;
}

function isSvg({ name, type }, bytes) {
  if (type !== "image/svg+xml" && !/\.svg$/i.test(name)) return false;
  return /<svg[\s>]/i.test(new TextDecoder().decode(bytes.subarray(0, LOOKED_AT_BYTES)));
}

/** The bytes as text; null when they are none. */
function textOf(bytes) {
  const [first, second] = bytes;
  if (first === 0xff && second === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (first === 0xfe && second === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  const head = bytes.subarray(0, LOOKED_AT_BYTES);
  const odd = head.filter((byte) => byte < 0x20 && ![0x08, 0x09, 0x0a, 0x0c, 0x0d, 0x1b].includes(byte)).length;
  return head.includes(0) || odd > head.length / 50 ? null : new TextDecoder().decode(bytes);
}

function textual(file, text, truncated) {
  const { name, type } = file;
  const [part, whole] = [bytesText(MOST_TEXT_BYTES), bytesText(file.sizeBytes)];
  const notes = truncated ? [note(`Only the first ${part} of ${whole} are shown.`)] : [];
  const isOf = (types, ending) => types.includes(type) || ending.test(name);
  if (isOf(["application/json"], /\.json$/i)) return json(text, truncated, notes);
  if (isOf(["text/x-diff", "text/x-patch"], /\.(?:patch|diff)$/i)) return block(notes, diff(text));
  if (isOf(["text/markdown"], /\.(?:md|markdown)$/i) && text.length <= MOST_MARKDOWN_CHARACTERS) {
    return block(notes, markdown(escaped(text.replace(/\r\n/g, "\n"))));
  }
  return block(notes, numbered(text));
}

function json(text, truncated, notes) {
  if (truncated) return block(notes, numbered(text));
  try {
    return block(notes, jsonTree(text));
  } catch (error) {
    return block([...notes, note(`This is no JSON that can be read: ${error.message}`)], numbered(text));
  }
}

/** Text with the numbers of its lines. */
function numbered(text) {
  const { lines, left } = linesOf(text, MOST_LINES);
  const numbers = lines.map((_, index) => index + 1).join("\n");
  return block(
    left ? [note(`${countText(left, "more line")} not shown here: download the file.`)] : [],
    element(
      "div",
      { class: "preview-text" },
      element("pre", { class: "preview-numbers", "aria-hidden": "true", text: numbers }),
      element("pre", { class: "preview-lines", tabindex: "0", text: lines.join("\n") }),
    ),
  );
}

function diff(text) {
  const { lines, left } = linesOf(text, MOST_DIFF_LINES);
  const rows = lines.map((line) => element("span", { class: `diff-line ${diffKind(line)}`, text: `${line}\n` }));
  return block(
    left ? [note(`${countText(left, "more line")} not shown here: download the file.`)] : [],
    element("pre", { class: "preview-lines preview-diff", tabindex: "0" }, rows),
  );
}

const DIFF_HEAD = /^(?:diff |index |--- |\+\+\+ |new file|deleted file|rename |similarity |old mode|new mode)/;

function diffKind(line) {
  if (DIFF_HEAD.test(line)) return "diff-head";
  return { "+": "diff-added", "-": "diff-removed", "@": "diff-place" }[line[0]] ?? "diff-same";
}

/** At most `most` lines fit to be shown, each cut where it is too long; and how many are left. */
function linesOf(text, most) {
  const all = text.replace(/\r\n/g, "\n").replace(/\n$/, "").split("\n");
  return { lines: all.slice(0, most).map((line) => escaped(cut(line))), left: Math.max(0, all.length - most) };
}

function cut(line) {
  if (line.length <= MOST_LINE_CHARACTERS) return line;
  return `${line.slice(0, MOST_LINE_CHARACTERS)} … (${countText(line.length, "character")})`;
}

async function picture({ name, sizeBytes }, type, { bytes, truncated }) {
  if (truncated) return note(`The picture is larger than ${bytesText(MOST_PICTURE_BYTES)}: download it.`);
  const address = URL.createObjectURL(new Blob([bytes], { type }));
  const image = element("img", { class: "preview-picture", alt: name, src: address });
  try {
    await image.decode();
  } catch {
    return block([note("The picture is damaged.")], hexHead(bytes, sizeBytes));
  } finally {
    URL.revokeObjectURL(address);
  }
  const kind = type.replace(/^image\/|\+xml$/g, "").toUpperCase();
  const text = `${kind}, ${image.naturalWidth} × ${image.naturalHeight}, ${bytesText(sizeBytes)}`;
  return element("figure", { class: "preview-figure" }, image, element("figcaption", { class: "preview-note", text }));
}

function hexHead(bytes, sizeBytes) {
  const rows = [];
  const shown = Math.min(bytes.length, HEX_BYTES);
  for (let at = 0; at < shown; at += 16) rows.push(hexRow(bytes.subarray(at, Math.min(at + 16, shown)), at));
  return block(
    [note(`Not text: ${shown === sizeBytes ? "its" : `the first ${shown} of ${bytesText(sizeBytes)}, as`} bytes.`)],
    element("pre", { class: "preview-lines", tabindex: "0", text: rows.join("\n") }),
  );
}

function hexRow(bytes, at) {
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  const text = [...bytes].map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·")).join("");
  return `${at.toString(16).padStart(8, "0")}  ${hex.padEnd(48)} ${text}`;
}

function note(text) {
  return element("p", { class: "preview-note", text });
}

function block(notes, ...shown) {
  return element("div", { class: "preview-block" }, notes, shown);
}
