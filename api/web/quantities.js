/** Numbers as people read them (pure). */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** 1536 → "1.5 KiB"; null → "–". */
export function bytesText(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit && value < 100 ? trimmed(value, 1) : Math.round(value)} ${UNITS[unit]}`;
}

/** Seconds → "820 ms", "4.2 s", "3 min 5 s", "2 h 4 min", "3 d 2 h"; null → "–". */
export function durationText(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const all = Math.max(0, seconds);
  if (all < 1) return `${Math.round(all * 1000)} ms`;
  if (all < 10) return `${trimmed(all, 1)} s`;
  const whole = Math.floor(all);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return two(whole, 60, "min", 1, "s");
  if (whole < 86400) return two(whole, 3600, "h", 60, "min");
  return two(whole, 86400, "d", 3600, "h");
}

/** As `durationText`, without parts of a second: for what ticks. */
export function wholeDurationText(seconds) {
  const whole = Math.floor(Math.max(0, seconds));
  return whole ? durationText(whole) : "0 s";
}

export function numberText(value, digits = 2) {
  if (value === null || value === undefined) return "–";
  return Number(value).toLocaleString("en-US", { maximumFractionDigits: digits });
}

export function countText(count, one, many = `${one}s`) {
  return `${numberText(count)} ${count === 1 ? one : many}`;
}

function trimmed(value, digits) {
  return String(Number(value.toFixed(digits)));
}

function two(whole, large, largeName, small, smallName) {
  const rest = Math.floor((whole % large) / small);
  return `${Math.floor(whole / large)} ${largeName}${rest ? ` ${rest} ${smallName}` : ""}`;
}
