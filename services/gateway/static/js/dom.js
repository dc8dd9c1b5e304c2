// Making elements. Strings only ever become text nodes.

import { plain } from "./text.js";

export const byId = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

// el("p", { class: "note", dataset: { phase }, onclick }, "text", otherElement)
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "dataset") Object.assign(element.dataset, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child instanceof Node ? child : plain(child));
  }
  return element;
}

// Change text only where it differs, so that nothing is laid out anew for nothing.
export function say(element, text) {
  const shown = plain(text);
  if (element.textContent !== shown) element.textContent = shown;
}

// One tab stop for a list: arrow keys, Home and End move among what `selector` finds.
export function rove(container, selector) {
  container.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
    const stops = [...container.querySelectorAll(selector)];
    const here = stops.indexOf(document.activeElement);
    if (here < 0) return;
    event.preventDefault();
    focusOne(stops, stops[Math.min(Math.max(here + steps[event.key], 0), stops.length - 1)]);
  });
}

export function focusOne(stops, chosen) {
  for (const stop of stops) stop.tabIndex = stop === chosen ? 0 : -1;
  chosen.focus();
}

// Run `render` in an animation frame, at most once every so many milliseconds, however often it is asked for.
export function coalesced(render, everyMs = 0) {
  let asked = false;
  let last = -Infinity;
  const frame = () =>
    requestAnimationFrame(() => {
      asked = false;
      last = performance.now();
      render();
    });
  return () => {
    if (asked) return;
    asked = true;
    const wait = last + everyMs - performance.now();
    wait > 0 ? setTimeout(frame, wait) : frame();
  };
}
