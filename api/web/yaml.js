/**
 * JSON values as YAML 1.2 that reads well: block style, texts of several lines as they are (pure). Whatever could be
 * read as something else than the text it is, is quoted as JSON, which YAML 1.2 takes.
 */

const PLAIN = /^[A-Za-z_/.][A-Za-z0-9_ ./@+~=,()*-]*(:[A-Za-z0-9_/.@+-][A-Za-z0-9_ ./@+~=,()*-]*)*$/;
const NOT_A_TEXT = /^(null|true|false|yes|no|on|off|y|n|~|\.inf|\.nan|\.?\d.*)$/i;
const PRINTABLE_LINES = /^[^\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\t]*$/u;

/** The value as a YAML document, with its line end. */
export function yamlOf(value) {
  return `${node(value, 0).trimStart()}\n`;
}

/** A copy without members that are null or empty: what a manifest need not say. */
export function withoutDefaults(value) {
  if (!isMap(value)) return value;
  const kept = Object.entries(value).map(([name, member]) => [name, withoutDefaults(member)]);
  return Object.fromEntries(kept.filter(([, member]) => !isNothing(member)));
}

function node(value, depth) {
  if (Array.isArray(value))
    return value.length
      ? lines(
          value.map((one) => item("- ", one, depth)),
          depth,
        )
      : " []";
  if (isMap(value)) {
    const members = Object.entries(value);
    return members.length
      ? lines(
          members.map(([name, one]) => member(name, one, depth)),
          depth,
        )
      : " {}";
  }
  return ` ${scalar(value, depth)}`;
}

function lines(entries, depth) {
  return entries.map((entry) => `\n${"  ".repeat(depth)}${entry}`).join("");
}

function member(name, value, depth) {
  return `${scalar(name, 0, true)}:${node(value, depth + 1)}`;
}

function item(dash, value, depth) {
  return dash + node(value, depth + 1).trimStart();
}

function scalar(value, depth, isKey = false) {
  if (typeof value !== "string") return JSON.stringify(value);
  if (!isKey && value.includes("\n") && fitsBlock(value)) return block(value, depth);
  const isPlain = PLAIN.test(value) && !NOT_A_TEXT.test(value) && !/\s$|^-|^\.\.\.$|\s#/.test(value);
  return isPlain ? value : quoted(value);
}

/** Besides what JSON escapes, what a YAML reader takes for no printable character. */
function quoted(text) {
  const escaped = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(text).replace(/[\x7f-\x9f\u2028\u2029\ufeff]/g, escaped);
}

function fitsBlock(text) {
  return PRINTABLE_LINES.test(text.replaceAll("\n", "")) && !/^[ \n]/.test(text);
}

function block(text, depth) {
  const rest = /\n*$/.exec(text)[0];
  const chomping = rest === "" ? "-" : rest === "\n" ? "" : "+";
  const body = text.slice(0, text.length - rest.length).split("\n");
  const indented = body.map((line) => (line ? "  ".repeat(depth) + line : ""));
  return `|${chomping}\n${indented.join("\n")}${rest.slice(1)}`;
}

function isMap(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isNothing(value) {
  return value === null || (Array.isArray(value) && !value.length) || (isMap(value) && !Object.keys(value).length);
}
