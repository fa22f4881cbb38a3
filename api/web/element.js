/**
 * The one way this page makes DOM: names, attributes, listeners and text. Nothing is ever parsed as HTML, so what a
 * task says can only ever be text.
 */

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(
  "svg g path rect circle line polyline polygon text tspan title desc defs clipPath linearGradient stop use".split(" "),
);
const PROPERTIES = new Set(["value", "checked", "disabled", "selected", "hidden", "open", "indeterminate"]);

/**
 * Make an element.
 *
 * `class`: string; `text`: its text; `data`: {name: value} for the dataset; `style`: {"--name": value}, CSS properties
 * set through the CSSOM (the policy allows no style attribute); `on`: {event: listener}; everything else is an
 * attribute (true: an empty one; false, null and undefined: none). Children: elements, strings, numbers, arrays of
 * them; null, undefined and false are left out.
 */
export function element(tag, { class: names, text, data, style, on, ...attributes } = {}, ...children) {
  const made = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  if (names) made.setAttribute("class", names);
  for (const [name, value] of Object.entries(attributes)) setAttribute(made, name, value);
  for (const [name, value] of Object.entries(data ?? {})) made.dataset[name] = value;
  for (const [name, value] of Object.entries(style ?? {})) made.style.setProperty(name, value);
  for (const [event, listener] of Object.entries(on ?? {})) made.addEventListener(event, listener);
  if (text !== undefined && text !== null) made.append(String(text));
  made.append(...shown(children));
  return made;
}

/** Put these children in the place of all that the parent has. */
export function fill(parent, ...children) {
  parent.replaceChildren(...shown(children));
  return parent;
}

/** A link of the web, or its mere text when the address is anything but http(s). */
export function link(address, text = address) {
  let url;
  try {
    url = new URL(String(address));
  } catch {
    return element("span", { text });
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") return element("span", { text });
  return element("a", { href: url.href, rel: "noopener noreferrer nofollow", target: "_blank", text });
}

function setAttribute(made, name, value) {
  if (/^on/i.test(name)) throw new TypeError(`${name}: listeners are given in "on", never as an attribute`);
  if (PROPERTIES.has(name) && name in made) made[name] = value ?? (name === "value" ? "" : false);
  else if (value === true) made.setAttribute(name, "");
  else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, String(value));
}

function shown(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : String(child)));
}
