// The server renders everything: when something has come, and every few seconds, the page is fetched again and
// what changed in its live parts is put in. Without this script a reload does the same.
"use strict";

const EVERY_MS = 2000;
const AGAIN_MS = 10000;
// each item as the server rendered it: what is done to it here is no change
const rendered = new WeakMap();
let isUnderWay = false;

function merge(part, fresh) {
  const wanted = [...fresh.children];
  const ids = new Set(wanted.map((each) => each.id));
  for (const old of [...part.children]) if (!ids.has(old.id)) old.remove();
  wanted.forEach((item, at) => {
    const old = [...part.children].find((each) => each.id === item.id);
    if (old && (isInUse(old) || rendered.get(old) === item.outerHTML)) return;
    const made = document.importNode(item, true);
    rendered.set(made, item.outerHTML);
    if (old) old.replaceWith(made);
    else part.insertBefore(made, part.children[at] || null);
  });
}

// what somebody is about to press does not move away under the finger
function isInUse(item) {
  return item.contains(document.activeElement) || item.querySelector("details[open]") !== null;
}

async function refresh() {
  if (isUnderWay || document.hidden) return;
  isUnderWay = true;
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(10000) });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const its = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
      if (its) merge(part, its);
    }
  } catch {
    // the service is away: the next time will show
  } finally {
    isUnderWay = false;
  }
}

function listen() {
  const told = new EventSource("/v1/me/notifications");
  told.onopen = refresh;
  told.onmessage = refresh;
  told.onerror = () => {
    if (told.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN_MS);
  };
}

function hide(image) {
  image.hidden = true;
}

for (const item of document.querySelectorAll("[data-live] > *")) rendered.set(item, item.outerHTML);
for (const image of document.images) if (image.complete && !image.naturalWidth) hide(image);
document.addEventListener("error", (event) => event.target instanceof HTMLImageElement && hide(event.target), true);

if (document.querySelector("[data-live]")) {
  listen();
  setInterval(refresh, EVERY_MS);
  document.addEventListener("visibilitychange", refresh);
}
