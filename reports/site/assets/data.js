/* What the pages have in common: loading of data files, and text from the data as nodes.
 *
 * A data file is a script, data/NAME.js, that sets siteData["NAME"]: a page from disk may not fetch. Every text from
 * the data becomes a text node; no page makes markup from a string.
 */

"use strict";

const siteData = Object.create(null);
const waiting = new Map();

/** Load data/NAME.js once and return what it holds. */
function load(name) {
  if (name in siteData) return Promise.resolve(siteData[name]);
  if (!waiting.has(name)) {
    waiting.set(
      name,
      new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `data/${name}.js`;
        script.addEventListener("load", () => resolve(siteData[name]));
        script.addEventListener("error", () => reject(new Error(`data/${name}.js is missing: the site is not whole.`)));
        document.head.append(script);
      }),
    );
  }
  return waiting.get(name);
}

/** Return a new element with properties and children; a string among the children becomes a text node. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

// Characters that are not seen or that turn the text around them; the same as in pages.py.
const CONTROL = /([\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060\u2066-\u2069\ud800-\udfff\ufeff])/u;

/** Return a text from the data as nodes that show it literally: a control character by its code. */
function literal(text) {
  return text.split(CONTROL).map((part, index) => {
    if (index % 2 === 0) return part;
    const code = part.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    return make("span", { className: "control" }, `U+${code}`);
  });
}

/** Return a text from the data in an element of its own, apart from the direction of the text around it. */
function shown(text) {
  return make("bdi", {}, ...literal(text));
}

/** Return the address of a case's page. */
function caseAddress(run, id) {
  return `case.html#${run}/${encodeURIComponent(id).replaceAll("%2F", "/")}`;
}

/** Show why a page cannot be shown. */
function complain(error) {
  document.getElementById("main").append(make("p", { className: "warning failed" }, error.message));
}
