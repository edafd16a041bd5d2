// The server renders everything. After each notification and every few seconds this script fetches the page again and
// replaces the live parts that have changed. Without the script a reload does the same.
"use strict";

const REFRESH_MS = 2000;
const RECONNECT_MS = 10000;
const READ_MS = 2000;
const SEEN = "integrations.seen";
const TITLE = document.title;
// the HTML of each item as the server rendered it: changes that this script makes do not count
const rendered = new WeakMap();
let isRefreshing = false;
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
  if (isRefreshing || document.hidden) return;
  isRefreshing = true;
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(10000) });
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
  }
}

function listen() {
  const stream = new EventSource("/v1/me/notifications");
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

const clock = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function decorate() {
  for (const time of document.querySelectorAll("time")) {
    time.textContent = clock.format(new Date(time.dateTime));
    time.title = time.dateTime;
  }
  showUnread();
}

function notifications() {
  return [...document.querySelectorAll("[data-notification]")];
}

function newest() {
  return Math.max(0, ...notifications().map((each) => Number(each.dataset.notification)));
}

function seen() {
  return Number(localStorage.getItem(SEEN) ?? newest());
}

function showUnread() {
  if (!document.getElementById("notifications")) return;
  if (localStorage.getItem(SEEN) === null) localStorage.setItem(SEEN, newest());
  const last = seen();
  let unread = 0;
  for (const each of notifications()) {
    const isUnread = Number(each.dataset.notification) > last;
    each.classList.toggle("unread", isUnread || each.classList.contains("unread"));
    unread += isUnread;
  }
  document.title = unread ? `(${unread}) ${TITLE}` : TITLE;
  document.getElementById("notifications").dataset.unread = unread || "";
}

// notifications count as read when the reader has had them on the screen for a while
function watchReading() {
  let timer;
  const observer = new IntersectionObserver((entries) => {
    clearTimeout(timer);
    if (entries.some((each) => each.isIntersecting)) timer = setTimeout(read, READ_MS);
  });
  observer.observe(document.querySelector('[data-live="notifications"]'));
  document.addEventListener("visibilitychange", () => clearTimeout(timer));
}

function read() {
  if (document.hidden || !document.hasFocus()) return;
  localStorage.setItem(SEEN, newest());
  showUnread();
}

for (const item of document.querySelectorAll("[data-live] > *")) rendered.set(item, item.outerHTML);
for (const image of document.images) if (image.complete && !image.naturalWidth) image.hidden = true;
document.addEventListener("error", ({ target }) => target instanceof HTMLImageElement && (target.hidden = true), true);
decorate();

if (document.querySelector("[data-live]")) {
  listen();
  setInterval(refresh, REFRESH_MS);
  document.addEventListener("visibilitychange", refresh);
}
if (document.querySelector('[data-live="notifications"]')) {
  watchReading();
  document.addEventListener("click", read);
}
