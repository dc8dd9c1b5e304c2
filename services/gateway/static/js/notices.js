// What a person should know now, with the cure: one notice a kind, each can be put away.

import { byId, el } from "./dom.js";
import { untickedBecause } from "./status.js";
import { whole } from "./text.js";

const NARROW = window.matchMedia("(max-width: 720px)");

export class Notices {
  constructor() {
    this._shown = new Map();
    this._dismissed = new Set();
  }

  // Show a notice, or take it away where `content` is null. The same text is not drawn twice.
  set(kind, title, content) {
    const shown = this._shown.get(kind);
    if (content === null) {
      shown?.element.remove();
      this._shown.delete(kind);
      this._dismissed.delete(kind);
      return;
    }
    const key = JSON.stringify([title, content]);
    if (shown?.key === key || this._dismissed.has(kind)) return;
    shown?.element.remove();
    const element = this._element(kind, title, content);
    this._shown.set(kind, { key, element });
    byId("notices").append(element);
  }

  // A failed action: said until it is put away or the next one is said.
  say(title, text) {
    this._dismissed.delete("action");
    this.set("action", title, { text, cures: [] });
  }

  _element(kind, title, { text, cures }) {
    const dismiss = () => {
      this._shown.get(kind)?.element.remove();
      this._shown.delete(kind);
      this._dismissed.add(kind);
    };
    return el(
      "section",
      { class: "notice", dataset: { kind } },
      el("h2", {}, title),
      el("button", { type: "button", "aria-label": "Dismiss", onclick: dismiss }, "✕"),
      text && el("p", {}, text),
      cures.length > 0 &&
        (NARROW.matches ? el("details", {}, el("summary", {}, "What helps"), list(cures)) : list(cures)),
    );
  }
}

const list = (cures) =>
  el(
    "ul",
    {},
    cures.map(([command, what]) => el("li", {}, el("code", {}, command), ` ${what}`)),
  );

const CURES = [
  [
    "ollama run qwen2.5:3b-instruct",
    "or another OpenAI-compatible server there: it is found within 30 s, nothing needs a restart",
  ],
  ["perpetua up --model FOLDER", "thinks with a CTranslate2 model folder of yours"],
  [
    "perpetua up --model tiny",
    "a tiny model with random weights: gibberish, on the path that is the real one",
  ],
];

// The notice about what thinks: null while at least one thought of the last minute came from a model.
export function thinking({ model, fallback }, error) {
  if (fallback === 0 || model > 0) return ["", null];
  if (error === null) {
    return [
      "Every thought is the declared fallback",
      {
        text: "Thinking is switched off by CODETETHER_COGNITION_THINKER_ENABLED=false; restart without it.",
        cures: [],
      },
    ];
  }
  const none = error.startsWith("no model");
  return [
    none
      ? "Every thought is the declared fallback: there is no model yet"
      : "The model fails: every thought of the last minute is the declared fallback",
    { text: error, cures: none ? CURES : [["perpetua ps", "shows what thinks and why it was chosen"]] },
  ];
}

const UNTICKED_MS = 5000;

// The notice about personas that should be ticked and are not, once it lasts.
export function unticked(status, lastedMs) {
  const because = untickedBecause(status);
  if (because === null || lastedMs < UNTICKED_MS) return ["", null];
  const { active_persona_count: active, ticked_persona_count: ticked } = status;
  const some = `${whole(active - ticked)} of ${whole(active)} active personas are not ticked`;
  return [
    status.running ? some : "The loop is to run, and no scheduler ticks",
    { text: `${because}.`, cures: [["perpetua ps", "shows which processes live, and what each is without"]] },
  ];
}

// The notice about silence: a loop that runs, personas that are active, and no thought for far too long.
export function silence(status, quietMs) {
  const patience = Math.max(3 * status.loop_interval_ms, 15000) + 12000;
  if (!status.running || status.active_persona_count === 0 || quietMs < patience) return ["", null];
  return [
    "The loop runs, but no thought arrives",
    {
      text: "Nothing has thought for a while: is a thinker up?",
      cures: [["perpetua ps", "shows which processes live"]],
    },
  ];
}
