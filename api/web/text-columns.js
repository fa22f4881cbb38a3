/**
 * How wide text is in a monospace font, counted in columns. Pure.
 */

const PLAIN = /^[\x20-\x7e]*$/;
const WIDTHLESS = /^[\p{Mn}\p{Me}\p{Cf}]$/u;

/** First and last of the ranges whose characters take two columns (East Asian wide, and pictures). */
const WIDE = [
  [0x1100, 0x115f], [0x2e80, 0x303e], [0x3041, 0x4dbf], [0x4e00, 0xa4cf], [0xa960, 0xa97c], [0xac00, 0xd7a3],
  [0xf900, 0xfaff], [0xfe30, 0xfe6f], [0xff01, 0xff60], [0xffe0, 0xffe6], [0x1f300, 0x1f64f], [0x1f680, 0x1f6ff],
  [0x1f900, 0x1faff], [0x20000, 0x3fffd],
];

/** Columns of one character: 0, 1 or 2. */
function columnsOfCharacter(character) {
  const code = character.codePointAt(0);
  if (code < 0x300) return 1;
  if (WIDE.some(([first, last]) => first <= code && code <= last)) return 2;
  return WIDTHLESS.test(character) ? 0 : 1;
}

/** Columns that `text` takes; it holds no tabs and no other control characters. */
export function columnsOf(text) {
  if (PLAIN.test(text)) return text.length;
  let columns = 0;
  for (const character of text) columns += columnsOfCharacter(character);
  return columns;
}

/** Rows that a line of `columns` takes where a row has room for `width`; a `width` of 0 is room for everything. */
export function rowsOf(columns, width) {
  return width > 0 && columns > width ? Math.ceil(columns / width) : 1;
}

/**
 * The offsets in `text` at which its rows begin, where a row has room for `width` columns, and at last its length.
 *
 * A wide character that begins in a row ends in it, one column too far: so the rows of a line can be counted without
 * looking at its text (`rowsOf`).
 */
export function rowStarts(text, width) {
  const starts = [0];
  if (width > 0 && PLAIN.test(text)) {
    for (let start = width; start < text.length; start += width) starts.push(start);
  } else if (width > 0) {
    let [column, offset] = [0, 0];
    for (const character of text) {
      const own = columnsOfCharacter(character);
      if (own > 0 && column >= starts.length * width) starts.push(offset);
      column += own;
      offset += character.length;
    }
  }
  return [...starts, text.length];
}
