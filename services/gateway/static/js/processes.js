// Who is there: each process, since when, and what it last did.

import { get, now } from "./api.js";
import { byId, el } from "./dom.js";
import { span } from "./text.js";

const LOOK_MS = 5000;

export class Processes {
  constructor() {
    this._box = byId("processes");
    this._box.addEventListener("toggle", () => this._look());
    setInterval(() => document.hidden || this._look(), LOOK_MS);
  }

  async _look() {
    if (!this._box.open) return;
    const { processes } = await get("/v1/swarm/processes").catch(() => ({ processes: null }));
    byId("processes-list").replaceChildren(
      ...(processes === null ? [el("li", { class: "quiet" }, "The gateway does not answer.")] : processes.map(row)),
    );
  }
}

const ago = (at) => `${span((now() - Date.parse(at)) / 1000)} ago`;

function row({ instance, ready, since, restarts, last_activity: act, last_activity_at: at, ...more }) {
  const doing = ready ? act && `${act}, ${ago(at)}` : more.not_ready_because;
  const again = restarts > 0 ? `, restarted ${restarts}×` : "";
  return el(
    "li",
    { class: "process", dataset: { ready } },
    el("span", { class: "dot", "aria-hidden": "true" }),
    el("strong", {}, instance),
    el("span", { class: "quiet" }, `${ready ? "there" : "not ready"}, started ${ago(since)}${again}`),
    doing && el("span", { class: "quiet" }, doing),
    (more.summary?.failures ?? []).map((failure) =>
      el("span", { class: "why" }, `without ${failure.role} ${failure.slot_index}: ${failure.reason}`),
    ),
    (more.summary?.troubles ?? []).map((trouble) => el("span", { class: "why" }, trouble)),
  );
}
