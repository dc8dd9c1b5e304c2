// An event as a row of a list.

import { el } from "./dom.js";
import { describe } from "./describe.js";
import { clock } from "./text.js";

// `choose`, where given, makes the persona's name a button.
export function row({ sequence, event }, { choose = null, why = false } = {}) {
  const said = describe(event);
  return el(
    "li",
    { class: "event", dataset: { phase: said.phase, source: said.source ?? "", sequence } },
    el(
      "div",
      { class: "line" },
      choose && who(event, said, choose),
      el("span", { class: "what" }, said.what),
      said.by && el("span", { class: "by" }, said.by),
      el(
        "time",
        { datetime: event.timestamp, title: `event ${sequence}, ${event.timestamp}` },
        clock(event.timestamp),
      ),
    ),
    said.text && el("p", { class: "text" }, said.text),
    why && said.why && el("p", { class: "why" }, said.why),
  );
}

function who(event, said, choose) {
  if (event.persona_id === null) return el("span", { class: "who" }, said.who);
  const title = event.persona_id === said.who ? null : event.persona_id;
  return el(
    "button",
    { type: "button", class: "link who", tabindex: -1, title, onclick: () => choose(event.persona_id) },
    said.who,
  );
}
