// Logos that cannot be loaded, and notifications that are new since the reader saw them last.
"use strict";

const READ_MS = 2000;
const SEEN = "integrations.seen";
const TITLE = document.title;

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

for (const image of document.images) if (image.complete && !image.naturalWidth) image.hidden = true;
document.addEventListener("error", ({ target }) => target instanceof HTMLImageElement && (target.hidden = true), true);
document.addEventListener("live", showUnread);
if (document.querySelector('[data-live="notifications"]')) {
  watchReading();
  document.addEventListener("click", read);
}
