// One persona: who it is, what bounds it, what it has done lately.

import { get, now, segment } from "./api.js";
import { byId, coalesced, el, say } from "./dom.js";
import { Life } from "./life.js";
import { row } from "./rows.js";
import { eventsOf } from "./stream.js";
import { Talk } from "./talk.js";
import { span, whole } from "./text.js";

const EVENTS = 20;
const LIST_MS = 300;
const LOOK_MS = 2000;

const POLICY = [
  ["max_spawn_depth", "spawn depth"],
  ["max_branching_factor", "living children"],
  ["token_credits_per_minute", "tokens a minute"],
  ["cpu_credits_per_minute", "CPU ms a minute"],
  ["idle_ttl_secs", "idle after"],
  ["share_memory", "shares memory"],
];

export class Persona {
  constructor({ choose, spawn, reap, end }) {
    this._act = { choose, spawn, reap };
    this._end = end;
    this._id = null;
    this._state = null;
    this._events = [];
    this._life = new Life();
    this._talk = new Talk();
    this._panel = byId("persona");
    this._list = coalesced(() => this._renderEvents(), LIST_MS);
    this._nothing();
    setInterval(() => document.hidden || this.refresh(), LOOK_MS);
  }

  // Show a persona, or none.
  async select(id) {
    this._id = id;
    this._state = null;
    this._events = [];
    if (id === null) return this._nothing();
    this._frame(el("p", { class: "quiet" }, "Looking …"));
    await this.refresh();
    return this._past(id);
  }

  take(sequence, event) {
    this._talk.take(event);
    if (this._id === null || event.persona_id !== this._id) return;
    this._keep([{ sequence, event }]);
  }

  async refresh() {
    const id = this._id;
    if (id === null) return;
    try {
      const state = await get(`/v1/swarm/personas/${segment(id)}`);
      if (id === this._id) this._take(state);
    } catch (error) {
      if (id === this._id && this._state === null) this._frame(el("p", { class: "quiet" }, error.message));
    }
  }

  async _past(id) {
    const past = await eventsOf(id, this._end(), EVENTS).catch(() => []);
    if (id === this._id) this._keep(past);
  }

  // Newest first, each once: what was read and what came live overlap.
  _keep(entries) {
    const known = new Map([...this._events, ...entries].map((entry) => [entry.sequence, entry]));
    this._events = [...known.values()].sort((a, b) => b.sequence - a.sequence).slice(0, EVENTS);
    this._list();
  }

  _nothing() {
    this._panel.classList.add("empty-panel");
    const text =
      "Choose a persona in the lineage or the list to see its charter, its policy and what it has thought.";
    this._panel.replaceChildren(head("Persona"), el("div", { class: "empty" }, text));
  }

  _frame(...content) {
    this._panel.classList.remove("empty-panel");
    const close = el("button", { type: "button", onclick: () => this._act.choose(null) }, "Close");
    this._panel.replaceChildren(
      head("Persona", close),
      el("div", { class: "scroll body persona-body" }, content),
    );
  }

  _take(state) {
    const shown = ({ status, waiting_for: others }) => JSON.stringify([status, others]);
    const same = this._state !== null && shown(this._state) === shown(state);
    this._state = state;
    if (!same) this._render();
    this._counters();
  }

  _render() {
    const { identity, policy, status } = this._state;
    this._counts = el("dl", { class: "facts" });
    this._rows = el("ol", { class: "list" });
    this._frame(
      el(
        "div",
        { class: "row" },
        el("h3", { class: "name" }, identity.name),
        el("span", { class: "badge", dataset: { status } }, status),
        this._life.badge,
      ),
      el("p", { class: "quiet" }, identity.role),
      el("p", { class: "charter" }, identity.charter),
      this._buttons(identity, status),
      this._counts,
      this._life.element,
      this._talk.element,
      el(
        "details",
        {},
        el("summary", {}, "Identity and policy"),
        facts([...this._identity(identity), ...bounds(policy)]),
      ),
      el("h3", {}, "Its latest events"),
      this._rows,
    );
    this._talk.show(identity.id, status !== "reaped");
    this._renderEvents();
  }

  _buttons(identity, status) {
    if (status === "reaped") return el("p", { class: "quiet" }, "Reaped: it thinks no more.");
    return el(
      "div",
      { class: "row control" },
      el("button", { type: "button", onclick: () => this._act.spawn(identity) }, "Spawn a child"),
      el("button", { type: "button", onclick: () => this._act.reap(identity) }, "Reap …"),
    );
  }

  _identity(identity) {
    const parent = identity.parent_id;
    const link =
      parent &&
      el("button", { type: "button", class: "link", onclick: () => this._act.choose(parent) }, parent);
    return [
      ["id", el("span", { class: "mono" }, identity.id)],
      ["swarm", identity.swarm_id ?? "none"],
      ["parent", link ?? "none: a root"],
      ["depth", identity.depth],
      ["depends on", this._state.waiting_for.join(", ") || "nobody"],
      ["created", new Date(identity.created_at).toLocaleString()],
    ];
  }

  _counters() {
    const { thought_count: count, last_tick_at: tick } = this._state;
    const ago = tick === null ? "never" : `${span((now() - Date.parse(tick)) / 1000)} ago`;
    if (this._counts.childElementCount === 0)
      this._counts.append(
        ...facts([
          ["thoughts", ""],
          ["last tick", ""],
        ]).children,
      );
    const [thoughts, last] = this._counts.querySelectorAll("dd");
    this._life.show(this._state.life);
    say(thoughts, whole(count));
    say(last, ago);
  }

  _renderEvents() {
    if (this._state === null) return;
    const none =
      this._state.status === "reaped" ? "The stream holds none of them any more." : "None in the stream yet.";
    this._rows.replaceChildren(
      ...(this._events.length > 0
        ? this._events.map((entry, i) => row(entry, { why: isNews(this._events, i) }))
        : [el("li", { class: "empty" }, none)]),
    );
  }
}

const head = (title, ...more) => el("div", { class: "head" }, el("h2", { id: "persona-title" }, title), more);

const facts = (pairs) =>
  el(
    "dl",
    { class: "facts" },
    pairs.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]),
  );

const bounds = (policy) => POLICY.map(([key, label]) => [label, bound(key, policy[key])]);

function bound(key, value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  return key === "idle_ttl_secs" ? span(value) : whole(value);
}

// An error is said once, where it is newest, and not with each thought that it has spoilt.
function isNews(events, index) {
  const error = events[index].event.payload.error;
  return !events.slice(0, index).some((later) => later.event.payload.error === error);
}
