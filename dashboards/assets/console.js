// Keeps the funnel current. The server renders it and sends it whole, as HTML, over server-sent events; without this
// script, the page shows the same numbers as of when it was loaded.
"use strict";
(() => {
  const live = document.querySelector("#live[data-live]");
  if (!live || !window.EventSource) return;
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const links = () => [...live.querySelectorAll("a[href], [tabindex]")];
  let source = null;
  let shown = "";

  const show = (html) => {
    if (html === shown) return;
    shown = html;
    // What the reader holds must survive the replacement: focus, and how far the wide table is scrolled.
    const focus = links().indexOf(document.activeElement);
    const across = [...live.querySelectorAll(".scroll")].map((e) => e.scrollLeft);
    const { scrollX, scrollY } = window;
    live.innerHTML = html;
    live.querySelectorAll(".scroll").forEach((e, i) => (e.scrollLeft = across[i] || 0));
    if (focus >= 0) links()[focus]?.focus({ preventScroll: true });
    window.scrollTo({ left: scrollX, top: scrollY, behavior: "instant" });
    if (!still.matches) live.querySelector(".updated")?.classList.add("fresh");
  };

  const close = () => {
    source?.close();
    source = null;
    live.classList.remove("on");
  };
  const open = () => {
    if (source) return;
    source = new EventSource(live.dataset.live);
    source.onopen = () => live.classList.add("on");
    source.onerror = () => live.classList.remove("on"); // The browser connects again by itself.
    source.onmessage = (event) => show(event.data);
  };

  // A tab nobody looks at holds no connection.
  const follow = () => (document.hidden ? close() : open());
  document.addEventListener("visibilitychange", follow);
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", follow);
  follow();
})();
