/**
 * The events of a coding agent in words, as `api/conversation.py` has them for text and terminals: a test compares the
 * two. Pure.
 */

/** What an event tells, in lines; null for one that is not an agent's. Any member may be missing. */
export function wordsOf(body) {
  const told = WORDS.get(body.type);
  if (!told) return null;
  const indent = body.parent_tool_use_id ? "    " : "";
  return told(body).map((line) => indent + line);
}

/** What an agent has used (`usage.agent` of a task), in one line. */
function usageLine(used) {
  const models = Array.isArray(used.models) ? used.models : Object.keys(used.models ?? {});
  const parts = [
    count(used.turns, "turn"),
    tokens(used),
    typeof used.cost_usd === "number" ? `$${used.cost_usd.toFixed(4)}` : "",
    count(used.requests, "request"),
  ];
  return parts.filter(Boolean).join(", ") + (models.length ? ` (${models.join(", ")})` : "");
}

function started(body) {
  const parts = body.model ? [`model ${word(body, "model")}`] : [];
  if (Number.isInteger(body.tools)) parts.push(count(body.tools, "tool"));
  const servers = list(body.mcp_servers).filter((one) => one !== null && typeof one === "object");
  const named = servers.map((one) => `${word(one, "name")} (${word(one, "status")})`);
  if (named.length) parts.push(`MCP servers ${named.join(", ")}`);
  const unknown = list(body.unknown_tools);
  if (unknown.length) parts.push(`without ${unknown.join(", ")}, which it does not know`);
  const version = body.version ? ` ${word(body, "version")}` : "";
  return [`agent${version} started${parts.length ? `: ${parts.join(", ")}` : ""}`];
}

function toolUse(body) {
  return [`● ${word(body, "tool")}${body.summary ? `: ${word(body, "summary")}` : ""}`];
}

function toolResult(body) {
  const took = typeof body.seconds === "number" ? ` after ${body.seconds.toFixed(1)} s` : "";
  if (!body.is_error) return [`  ✓ ${word(body, "tool")}${took}`];
  return [`  ✗ ${word(body, "tool")} failed${took}${body.summary ? `: ${word(body, "summary")}` : ""}`];
}

function apiRetry(body) {
  const why = ["status", "error"].filter((name) => body[name]).map((name) => word(body, name)).join(" ");
  const when = typeof body.delay_seconds === "number" ? ` in ${body.delay_seconds.toFixed(1)} s` : "";
  const number = `try ${word(body, "retry")} of ${word(body, "max_retries")}`;
  return [`! the model API failed (${why || "no answer"}): ${number}${when}`];
}

function mcpFailed(body) {
  const why = body.error ? `: ${word(body, "error")}` : "";
  return [`! MCP server ${word(body, "server")} is not there (${word(body, "status")})${why}`];
}

function permissionDenied(body) {
  return [`  ✗ ${word(body, "tool")} was not allowed${body.message ? `: ${word(body, "message")}` : ""}`];
}

function background(body) {
  const what = body.description ? `: ${word(body, "description")}` : "";
  return [`  in the background, ${word(body, "task_type")} ${word(body, "status")}${what}`];
}

function result(body) {
  const used = usageLine(body);
  const counted = used ? `: ${used}` : "";
  if (!body.is_error) return [`✓ the agent is done${counted}`];
  const why = body.reason ? ` (${word(body, "reason")})` : "";
  return [`✗ the agent gave up${why}${counted}`, ...(body.text ? textLines(body) : [])];
}

function inputRequired(body) {
  const [first, ...more] = textLines(body);
  const options = list(body.options).map((option) => `- ${option}`);
  const unsaid = options.filter((one) => !more.some((line) => line.startsWith(one))); // the text may name them, too
  return [`? ${first}`, ...[...more, ...unsaid].map((one) => `  ${one}`)];
}

function input(body) {
  return textLines(body, (body.text ?? null) === null ? "answer" : "text").map((line) => `> ${line}`);
}

const WORDS = new Map([
  ["agent_started", started],
  ["message", (body) => textLines(body)],
  ["tool_use", toolUse],
  ["tool_result", toolResult],
  ["api_retry", apiRetry],
  ["mcp_failed", mcpFailed],
  ["permission_denied", permissionDenied],
  ["background", background],
  ["result", result],
  ["input_required", inputRequired],
  ["input_withdrawn", (body) => [`? the agent does not ask ${word(body, "id")} any more`]],
  ["input", input],
]);

/** A member as a part of a line. */
function word(body, name) {
  const found = body[name] ?? null;
  return found === null ? "?" : String(found).split("\n").join(" ");
}

function list(found) {
  return Array.isArray(found) ? found : [];
}

/** A member that is a text of several lines, as at least one line. */
function textLines(body, name = "text") {
  const lines = String(body[name] ?? "").replace(/\n$/, "").split("\n").map((line) => line.replace(/\r$/, ""));
  if (body.truncated) lines[lines.length - 1] += " …";
  return lines;
}

function count(number, unit) {
  if (!Number.isInteger(number)) return "";
  return `${number.toLocaleString("en-US")} ${unit}${number === 1 ? "" : "s"}`;
}

/** With what was read from and written to the API's cache: it is sent and paid, too. */
function tokens(used) {
  const names = ["input_tokens", "cache_read_tokens", "cache_write_tokens"];
  const known = names.map((name) => used[name]).filter(Number.isInteger);
  if (!known.length || !Number.isInteger(used.output_tokens)) return "";
  const sent = known.reduce((sum, one) => sum + one, 0);
  return `${sent.toLocaleString("en-US")} tokens in, ${used.output_tokens.toLocaleString("en-US")} out`;
}
