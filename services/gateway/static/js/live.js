// The live list. At most some rows a second, so that it stays readable at any rate; what is not
// shown is counted, and a pause shows the newest events without gaps.

import { byId, coalesced, el, rove, say } from "./dom.js";
import { describe } from "./describe.js";
import { row } from "./rows.js";
import { some } from "./text.js";

const ROWS = 120;
const MEMORY = 600;
const FLUSH_MS = 250;
const ROWS_A_SECOND = 20;
const ROWS_AT_ONCE = 50;
const AT_TOP_PX = 24;
const HIDDEN_SAID_MS = 3000;

export class Live {
  constructor({ choose, empty }) {
    this._choose = choose;
    this._empty = empty;
    this._list = byId("list");
    this._memory = [];
    this._pending = [];
    this._fresh = 0;
    this._ready = false;
    this._paused = false;
    this._scrolled = false;
    this._hiddenAt = -Infinity;
    this._allowance = ROWS_AT_ONCE;
    this._allowedAt = performance.now();
    this._flush = coalesced(() => this._render(), FLUSH_MS);
    byId("show").addEventListener("change", () => this._rebuild());
    byId("pause").addEventListener("click", () => this._pause(!this._paused));
    byId("newer").addEventListener("click", () => this._toTop());
    this._list.addEventListener("scroll", () => this._onScroll(), { passive: true });
    rove(this._list, "button.who");
  }

  take(sequence, event) {
    this._remember({ sequence, event });
  }

  skipped(count, sequence) {
    this._remember({ sequence, lag: count });
  }

  // What the stream held is taken: show it, and what follows.
  ready() {
    this._ready = true;
    this._rebuild();
  }

  // Show what there is, or why there is nothing.
  refresh() {
    this._flush();
  }

  _remember(entry) {
    this._memory.push(entry);
    if (this._memory.length > 2 * MEMORY) this._memory.splice(0, this._memory.length - MEMORY);
    if (!this._ready || !this._wanted(entry)) return;
    this._fresh += 1;
    this._pending.push(entry);
    if (this._pending.length > 2 * ROWS) this._pending.splice(0, this._pending.length - ROWS);
    this._flush();
  }

  _wanted({ event, lag }) {
    const group = byId("show").value;
    return group === "all" || lag !== undefined || describe(event).group === group;
  }

  // Rows stay where they are while somebody reads them.
  _held() {
    return this._paused || this._scrolled || this._list.querySelector(":focus-visible") !== null;
  }

  _render() {
    this._showEmpty();
    if (!this._ready || this._held()) return this._sayNewer();
    const first = this._list.querySelector(".event, .lag") === null;
    const room = this._room();
    if (!first && this._fresh > room) this._hiddenAt = performance.now();
    const shown = first
      ? this._newest()
      : this._pending.filter((entry, i, all) => entry.lag || i >= all.length - room);
    if (!first) this._allowance -= shown.length;
    this._insert(shown);
    this._settle();
    return this._sayHidden();
  }

  // How many rows may come now: twenty a second, and a burst after a quiet while.
  _room() {
    const now = performance.now();
    this._allowance = Math.min(
      this._allowance + ((now - this._allowedAt) / 1000) * ROWS_A_SECOND,
      ROWS_AT_ONCE,
    );
    this._allowedAt = now;
    return Math.max(Math.floor(this._allowance), 0);
  }

  _sayHidden() {
    const hidden = performance.now() - this._hiddenAt < HIDDEN_SAID_MS && !this._paused;
    say(byId("hidden-note"), hidden ? "a sample: pause to see every event" : "");
  }

  _newest() {
    return this._memory
      .slice(-MEMORY)
      .filter((entry) => this._wanted(entry))
      .slice(-ROWS);
  }

  _insert(entries) {
    if (entries.length === 0) return;
    this._list.querySelector(".empty")?.remove();
    this._list.prepend(...entries.map((entry) => this._row(entry)).reverse());
    while (this._list.childElementCount > ROWS) this._list.lastElementChild.remove();
    if (!this._list.querySelector("button.who[tabindex='0']"))
      this._list.querySelector("button.who")?.setAttribute("tabindex", "0");
  }

  _row(entry) {
    if (entry.lag !== undefined) {
      const text = `${some(entry.lag, "event")} missed: the stream did not hold them any more`;
      return el("li", { class: "lag" }, text);
    }
    return row(entry, { choose: this._choose });
  }

  _rebuild() {
    this._list.replaceChildren();
    this._insert(this._newest());
    this._settle();
    this._showEmpty();
  }

  _settle() {
    this._pending = [];
    this._fresh = 0;
    byId("newer").hidden = true;
  }

  _sayNewer() {
    say(byId("newer"), `${some(this._fresh, "newer event")} ↑`);
    byId("newer").hidden = this._fresh === 0;
  }

  _showEmpty() {
    if (this._list.querySelector(".event, .lag")) return;
    this._list.replaceChildren(el("li", { class: "empty" }, this._empty(byId("show").value)));
  }

  _pause(paused) {
    if (paused) this._rebuild();
    this._paused = paused;
    byId("pause").setAttribute("aria-pressed", paused);
    say(byId("pause"), paused ? "Resume" : "Pause");
    this._sayHidden();
    if (!paused) this._toTop();
  }

  _onScroll() {
    const scrolled = this._list.scrollTop > AT_TOP_PX;
    if (this._scrolled && !scrolled && !this._paused) this._rebuild();
    this._scrolled = scrolled;
  }

  _toTop() {
    if (this._paused) this._pause(false);
    this._list.scrollTop = 0;
    this._scrolled = false;
    this._rebuild();
  }
}
