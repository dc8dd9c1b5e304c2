// The latest memory snapshot.

import { get } from "./api.js";
import { byId, coalesced, el } from "./dom.js";
import { clock } from "./text.js";

const FETCH_MS = 2000;

export class Snapshot {
  constructor({ choose }) {
    this._choose = choose;
    this._shown = null;
    this._fetch = coalesced(() => this._load(), FETCH_MS);
    this.none();
  }

  none() {
    if (this._shown !== null) return;
    const text =
      "None yet. A persona makes one with every fourth thought: what it keeps of the three before.";
    byId("snapshot-body").replaceChildren(el("p", { class: "quiet" }, text));
  }

  refresh() {
    this._fetch();
  }

  async _load() {
    const snapshot = await get("/v1/cognition/snapshots/latest").catch(() => null);
    if (snapshot === null || snapshot.id === this._shown) return;
    this._shown = snapshot.id;
    const { source, model, role } = snapshot.metadata;
    byId("snapshot-body").replaceChildren(
      el("p", { class: "summary" }, snapshot.summary),
      el(
        "p",
        { class: "quiet" },
        snapshot.persona_scope.map((id) =>
          el("button", { type: "button", class: "link", onclick: () => this._choose(id) }, id),
        ),
        ` · ${role ?? ""} · ${clock(snapshot.generated_at)}`,
        ` · ${source === "model" ? model : "declared fallback"}`,
      ),
      el(
        "p",
        { class: "quiet" },
        `from ${snapshot.hot_event_count} events, ${snapshot.warm_fact_count} facts retained`,
      ),
    );
  }
}
