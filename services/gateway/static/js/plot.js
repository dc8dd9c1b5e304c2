// A bar for each second of the last minute: thoughts of a model above, declared fallbacks below.

import { el, say, svg } from "./dom.js";
import { SECONDS } from "./rate.js";
import { whole } from "./text.js";

const STEP = 10;
const HEIGHT = 100;

export class Plot {
  constructor(container) {
    this._bars = Array.from({ length: SECONDS }, (_, i) => ({
      model: svg("rect", { class: "model", x: i * STEP, width: STEP - 2 }),
      fallback: svg("rect", { class: "fallback", x: i * STEP, width: STEP - 2 }),
    }));
    this._picture = svg(
      "svg",
      { viewBox: `0 0 ${SECONDS * STEP} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
      this._bars.flatMap((bar) => [bar.model, bar.fallback]),
    );
    this._top = el("span", { class: "top", "aria-hidden": "true" });
    const ends = el(
      "span",
      { class: "ends", "aria-hidden": "true" },
      el("span", {}, "a minute ago"),
      el("span", {}, "now"),
    );
    container.append(this._picture, this._top, ends);
  }

  show(minute, { model, fallback, most }) {
    const scale = HEIGHT / Math.max(most, 1);
    minute.forEach((bucket, i) => {
      const low = bucket.fallback * scale;
      const high = bucket.model * scale;
      stand(this._bars[i].fallback, HEIGHT - low, low);
      stand(this._bars[i].model, HEIGHT - low - high, high);
    });
    say(this._top, most > 0 ? whole(most) : "");
    const text = `Thoughts of the last minute: ${model} of a model, ${fallback} declared fallbacks`;
    this._picture.setAttribute("aria-label", text);
  }
}

function stand(bar, y, height) {
  bar.setAttribute("y", y);
  bar.setAttribute("height", height);
}
