// The loop: whether it runs, and the buttons that start and stop it.

import { get, now, post } from "./api.js";
import { byId, say } from "./dom.js";
import { isOn, stateOf, untickedBecause } from "./status.js";
import { every, some, span, whole } from "./text.js";

const LOOK_MS = 2000;
const LOOK_HIDDEN_MS = 15000;

export class Loop {
  constructor({ changed, failed }) {
    this.status = null;
    this.away = false;
    this.missed = 0;
    this._changed = changed;
    this._failed = failed;
    this._busy = null;
    this._looked = 0;
    this._untickedSince = null;
    byId("start").addEventListener("click", () => this._start());
    byId("stop").addEventListener("click", () => this._act("Stopping …", () => post("/v1/cognition/stop")));
    byId("interval").addEventListener("input", () => this._buttons());
    byId("loop").addEventListener("submit", (event) => {
      event.preventDefault();
      if (byId("interval").reportValidity() && this._busy === null) this._start();
    });
    document.addEventListener("visibilitychange", () => document.hidden || this.look());
  }

  // Look now, and again every two seconds; a page that nobody sees looks less often.
  async watch() {
    await this.look();
    setTimeout(() => this.watch(), document.hidden ? LOOK_HIDDEN_MS : LOOK_MS);
  }

  async look() {
    const looked = (this._looked += 1);
    try {
      const status = await get("/v1/cognition/status");
      if (looked === this._looked) this._take(status);
    } catch (error) {
      if (looked === this._looked) this._lost(error);
    }
  }

  // For how many milliseconds active personas have not been ticked that should be; 0 where all are.
  get untickedMs() {
    return this._untickedSince === null ? 0 : performance.now() - this._untickedSince;
  }

  _start() {
    const interval = byId("interval");
    if (!interval.reportValidity()) return;
    const wanted = Math.round(Number(interval.value));
    const chosen = wanted !== this.status?.loop_interval_ms;
    this._act("Starting …", () =>
      post("/v1/cognition/start", chosen ? { loop_interval_ms: wanted } : {}),
    );
  }

  async _act(doing, work) {
    this._busy = doing;
    this._show();
    try {
      const status = await work();
      this._looked += 1;
      byId("interval").value = status.loop_interval_ms;
      this._busy = null;
      this._take(status);
    } catch (error) {
      this._busy = null;
      this._failed(error.message);
      await this.look();
    }
  }

  _take(status) {
    const before = this.status;
    this.status = status;
    this.away = false;
    this._untickedSince = untickedBecause(status) === null ? null : (this._untickedSince ?? performance.now());
    const field = byId("interval");
    if (before === null || Number(field.value) === before.loop_interval_ms)
      field.value = status.loop_interval_ms;
    this._show();
    this._changed(status);
  }

  _lost(error) {
    this.away = true;
    this._why = error.message;
    this._show();
    this._changed(this.status);
  }

  _show() {
    const [state, text] = this._state();
    byId("state").dataset.state = state;
    say(byId("state"), text);
    this._buttons();
    if (this.status !== null) this.ages();
  }

  _state() {
    if (this._busy !== null) return ["waiting", this._busy];
    if (this.away) return ["away", `Away: ${this._why}`];
    if (this.status === null) return ["waiting", "Connecting …"];
    switch (stateOf(this.status)) {
      case "running":
        return ["running", "Running"];
      case "waiting":
        return ["stopped", `Waiting: ${untickedBecause(this.status)}`];
      case "stopping":
        return ["waiting", "Stopping …"];
      case "disabled":
        return ["stopped", "Disabled"];
      default:
        return ["stopped", "Stopped"];
    }
  }

  _buttons() {
    const { enabled = false, loop_interval_ms: interval } = this.status ?? {};
    const on = this.status !== null && isOn(this.status);
    byId("start").hidden = this.status === null || on;
    byId("stop").hidden = !on;
    byId("start").disabled = this._busy !== null || !enabled;
    byId("stop").disabled = this._busy !== null;
    byId("apply").hidden = !on || this._busy !== null || Number(byId("interval").value) === interval;
  }

  // What grows older by itself.
  ages() {
    const status = this.status;
    if (status === null) return;
    const ago = (at) => span((now() - Date.parse(at)) / 1000);
    const reapedOrIdle = status.persona_count - status.active_persona_count;
    say(byId("active"), whole(status.active_persona_count));
    say(
      byId("personas-note"),
      reapedOrIdle > 0
        ? `of ${whole(status.persona_count)} ever made`
        : `each thinks every ${every(status.loop_interval_ms)}`,
    );
    say(byId("events-held"), whole(status.events_buffered));
    const missed = this.missed > 0 ? ` · ${whole(this.missed)} events missed` : "";
    say(byId("events-note"), some(status.snapshots_buffered, "snapshot") + missed);
    say(byId("last-tick"), status.last_tick_at === null ? "never" : `${ago(status.last_tick_at)} ago`);
    say(
      byId("started-note"),
      status.started_at === null ? "not started yet" : `started ${ago(status.started_at)} ago`,
    );
  }
}
