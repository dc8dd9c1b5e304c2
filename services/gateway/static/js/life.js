// A persona's inner state: its mood, its energy, its credits, what waits in its inbox, what it waits for.

import { now } from "./api.js";
import { el, say } from "./dom.js";
import { clock, some, span, whole } from "./text.js";

const CREDITS = { tokens: "tokens", cpu_ms: "thinking time" };

export class Life {
  constructor() {
    this._mood = el("span", { class: "badge mood" });
    this._paused = el("p", { class: "paused" });
    this._rows = {
      energy: meter("energy"),
      budget: meter("credits left this minute"),
      inbox: el("dd", {}),
      waits: el("dd", {}),
      spent: el("dd", {}),
    };
    const { energy, budget, inbox, waits, spent } = this._rows;
    this._waits = [el("dt", {}, "waits for"), waits];
    this.badge = this._mood;
    this.element = el(
      "div",
      { class: "life" },
      this._paused,
      el(
        "dl",
        { class: "facts" },
        el("dt", {}, "inbox"),
        inbox,
        el("dt", {}, "energy"),
        energy.cell,
        el("dt", {}, "credits"),
        budget.cell,
        this._waits,
        el("dt", {}, "spent"),
        spent,
      ),
    );
  }

  // `life` is null right after a persona was made: no scheduler knows it yet.
  show(life) {
    this.element.hidden = this._mood.hidden = life === null;
    if (life === null) return;
    this._mood.dataset.mood = life.mood;
    say(this._mood, life.mood);
    say(this._rows.inbox, life.inbox_load === 0 ? "empty" : some(life.inbox_load, "item") + " waiting");
    this._rows.energy.show(life.energy);
    this._rows.budget.show(life.compute_budget);
    say(this._rows.spent, `${some(life.tokens, "token")}, ${span(life.cpu_ms / 1000)} of thinking`);
    for (const part of this._waits) part.hidden = life.waiting_for.length === 0;
    say(this._rows.waits, life.waiting_for.join(", "));
    this._paused.hidden = life.paused === null;
    if (life.paused !== null) say(this._paused, paused(life.paused));
  }
}

function paused({ account, credit, since, resumes_at: end }) {
  const until =
    end === null ? "a thought alone costs more than a whole minute has" : `it goes on at ${clock(end)}`;
  const ago = span((now() - Date.parse(since)) / 1000);
  return `Paused for ${ago}: ${account} is out of ${CREDITS[credit] ?? credit}; ${until}.`;
}

// A share of 1, as a bar and in words.
function meter(label) {
  const bar = el("meter", { min: 0, max: 1, low: 0.3, high: 0.5, optimum: 1, "aria-label": label });
  const text = el("span", {});
  return {
    cell: el("dd", { class: "share" }, bar, text),
    show(share) {
      bar.value = share;
      say(text, `${whole(Math.round(100 * share))} %`);
    },
  };
}
