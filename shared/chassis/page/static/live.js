// The server renders everything. After each event of the stream `data-stream` of the body, and every `data-every`
// milliseconds, this script fetches the page again and replaces the parts with `data-live` that have changed. Without this
// script, the reader reloads the page. After each change the document gets the event `live`.
"use strict";

const RECONNECT_MS = 10000;
const FETCH_MS = 10000;
// the HTML of each item as the server rendered it: changes that this script makes do not count
const rendered = new WeakMap();
const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
let isRefreshing = false;
let isOutdated = false;
let isConnected = true;
let isFetched = true;

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
  const section = part.closest("section");
  if (section) section.hidden = fresh.closest("section").hidden && !part.children.length;
}

// a button that somebody is about to press must not move
function isInUse(item) {
  return item.contains(document.activeElement) || item.querySelector("details[open]") !== null;
}

async function refresh() {
  if (document.hidden) return;
  if (isRefreshing) {
    // the page that is being fetched may have been rendered before this event
    isOutdated = true;
    return;
  }
  isRefreshing = true;
  isOutdated = false;
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(FETCH_MS) });
    isFetched = answer.ok;
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const its = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
      if (its) merge(part, its);
    }
    decorate();
  } catch {
    isFetched = false;
  } finally {
    isRefreshing = false;
    showStale();
    if (isOutdated) refresh();
  }
}

function listen() {
  const stream = new EventSource(document.body.dataset.stream);
  stream.onopen = () => {
    isConnected = true;
    refresh();
  };
  stream.onmessage = refresh;
  stream.onerror = () => {
    isConnected = false;
    showStale();
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, RECONNECT_MS);
  };
}

function showStale() {
  document.getElementById("stale").hidden = isConnected && isFetched;
}

function decorate() {
  for (const time of document.querySelectorAll("time")) {
    time.textContent = clock.format(new Date(time.dateTime));
    time.title = time.dateTime;
  }
  document.dispatchEvent(new Event("live"));
}

for (const item of document.querySelectorAll("[data-live] > *")) rendered.set(item, item.outerHTML);
document.addEventListener("DOMContentLoaded", decorate);
if (document.querySelector("[data-live]") && document.body.dataset.stream) {
  listen();
  if (document.body.dataset.every) setInterval(refresh, Number(document.body.dataset.every));
  document.addEventListener("visibilitychange", refresh);
}
