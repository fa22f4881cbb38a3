/** Files of the API, as downloads and as bytes. A link cannot carry an access token: then they are fetched. */

import { element } from "./element.js";
import { complain } from "./notices.js";
import { send } from "./server.js";
import { authorization } from "./token.js";

/** A link that downloads `path` (it begins with /api/) as a file called `name`. */
export function downloadLink(path, name, { words = "Download", names = "button" } = {}) {
  const link = element("a", {
    class: names,
    href: path,
    download: name,
    text: words,
    "aria-label": `${words}: ${name}`,
  });
  link.addEventListener("click", (event) => {
    if (authorization() === null) return;
    event.preventDefault();
    fetchInto(link, path, name, words);
  });
  return link;
}

/** Up to `limit` bytes of a file: {bytes, truncated}. */
export async function firstBytes(path, sizeBytes, limit) {
  if (sizeBytes === 0) return { bytes: new Uint8Array(), truncated: false };
  const headers = sizeBytes > limit ? { Range: `bytes=0-${limit - 1}` } : {};
  const response = await send(path, { headers });
  const bytes = new Uint8Array(await response.arrayBuffer());
  return { bytes: bytes.subarray(0, limit), truncated: sizeBytes > limit };
}

async function fetchInto(link, path, name, words) {
  if (link.getAttribute("aria-busy") === "true") return;
  link.setAttribute("aria-busy", "true");
  try {
    const response = await send(path);
    const blob = await blobOf(response, (percent) => {
      link.textContent = percent === null ? "Downloading…" : `${percent} %`;
    });
    save(blob, name);
  } catch (error) {
    complain(error);
  } finally {
    link.removeAttribute("aria-busy");
    link.textContent = words;
  }
}

async function blobOf(response, onProgress) {
  const all = Number(response.headers.get("Content-Length"));
  const parts = [];
  let received = 0;
  const reader = response.body.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return new Blob(parts, { type: "application/octet-stream" });
    parts.push(value);
    received += value.length;
    onProgress(all > 0 ? Math.floor((100 * received) / all) : null);
  }
}

function save(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = element("a", { href: address, download: name, class: "only-read" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}
