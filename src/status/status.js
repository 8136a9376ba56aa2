// Fetches the page again every 5 seconds while it is visible, and replaces only what has changed, so that the scroll
// position, open sections, the focus and a selection stay.
"use strict";
(() => {
  const PERIOD_MS = 5000;
  const freshness = document.getElementById("freshness");
  const announcement = document.getElementById("announcement"); // for screen readers: the state when its level changes
  let last = new Date(), timer = 0;

  const clock = (date) => date.toISOString().slice(11, 19) + " UTC";

  function say(text, failed) {
    freshness.textContent = text;
    freshness.classList.toggle("failed", failed);
  }

  function isSelected(element) {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && selection.containsNode(element, true);
  }

  function replace(next) {
    for (const fresh of next.querySelectorAll("[data-live]")) {
      const shown = document.getElementById(fresh.id);
      if (!shown || shown.isEqualNode(fresh) || isSelected(shown) || shown.contains(document.activeElement)) continue;
      if (fresh.id === "state" && fresh.className !== shown.className)
        announcement.textContent = fresh.textContent;
      shown.replaceWith(document.adoptNode(fresh));
    }
    document.title = next.title;
  }

  async function refresh() {
    clearTimeout(timer);
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, {cache: "no-store", signal: AbortSignal.timeout(PERIOD_MS)});
      if (!answer.ok) throw new Error(String(answer.status));
      replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
      last = new Date();
      say("Refreshed at " + clock(last) + ", every 5 s", false);
    } catch {
      say("The daemon does not answer. This is the state at " + clock(last), true);
    }
    timer = setTimeout(refresh, PERIOD_MS);
  }

  document.addEventListener("visibilitychange", refresh);
  say("Refreshed at " + clock(last) + ", every 5 s", false);
  timer = setTimeout(refresh, PERIOD_MS);
})();
