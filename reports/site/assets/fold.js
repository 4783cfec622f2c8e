/* A link into a folded part of a page, or to its heading, opens it. */

"use strict";

function unfold() {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  target.scrollIntoView();
}

addEventListener("hashchange", unfold);
unfold();
