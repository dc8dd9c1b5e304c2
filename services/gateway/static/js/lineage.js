// The tree of personas: each with the phase of its newest thought and how many it has had.

import { get } from "./api.js";
import { byId, coalesced, el, focusOne, rove, say } from "./dom.js";
import { rows } from "./tree.js";
import { some, whole } from "./text.js";

const ROWS = 400;
const FETCH_MS = 1000;
const COUNT_MS = 500;
const INDENT_REM = 0.9;

export class Lineage {
  constructor({ choose, empty }) {
    this._choose = choose;
    this._empty = empty;
    this._graph = { nodes: [], roots: [] };
    this._known = false;
    this._closed = new Set();
    this._selected = null;
    this._newest = new Map();
    this._shown = new Map();
    this._tree = byId("tree");
    this._fetch = coalesced(() => this._load(), FETCH_MS);
    this._draw = coalesced(() => this._render());
    this._count = coalesced(() => this._recount(), COUNT_MS);
    byId("lineage-filter").addEventListener("input", this._draw);
    byId("show-reaped").addEventListener("change", this._draw);
    this._tree.addEventListener("click", (event) => this._onClick(event));
    this._tree.addEventListener("keydown", (event) => this._onKey(event));
    rove(this._tree, ".node");
  }

  // How many personas, and how many active ones, the lineage shows.
  get size() {
    return {
      all: this._graph.nodes.length,
      active: this._graph.nodes.filter((n) => n.status === "active").length,
    };
  }

  refresh() {
    this._fetch();
  }

  thought(personaId, phase, count) {
    this._newest.set(personaId, { phase, count });
    if (this._shown.has(personaId)) this._count();
  }

  select(personaId) {
    this._selected = personaId;
    this._draw();
  }

  async _load() {
    try {
      this._graph = await get("/v1/swarm/lineage");
      this._known = true;
      const living = new Set(this._graph.nodes.filter((n) => n.status !== "reaped").map((n) => n.persona_id));
      for (const id of this._newest.keys()) if (!living.has(id)) this._newest.delete(id);
      this._draw();
    } catch {
      setTimeout(() => this._fetch(), 2 * FETCH_MS);
    }
  }

  _render() {
    if (!this._known) return;
    const options = {
      closed: this._closed,
      filter: byId("lineage-filter").value.trim(),
      reaped: byId("show-reaped").checked,
      most: ROWS,
    };
    const { rows: found, left } = rows(this._graph, options);
    const focused = this._tree.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    const nodes = found.map((node) => this._node(node));
    this._shown = new Map(found.map((node, i) => [node.id, nodes[i]]));
    this._tree.replaceChildren(...(nodes.length > 0 ? nodes : [this._nothing()]));
    this._recount();
    const stop = this._shown.get(focused) ?? this._shown.get(this._selected) ?? nodes[0];
    if (stop) stop.tabIndex = 0;
    if (focused !== null && this._shown.has(focused)) stop.focus({ preventScroll: true });
    byId("tree-note").hidden = left === 0;
    say(byId("tree-note"), `and ${some(left, "more", "more")}: find one by its id`);
  }

  _nothing() {
    if (this._graph.nodes.length === 0) return el("div", { class: "empty" }, this._empty());
    return el("div", { class: "empty" }, "No persona matches.");
  }

  _node({ id, level, children, open, status }) {
    const node = el(
      "div",
      {
        class: "node",
        role: "treeitem",
        tabindex: -1,
        title: id,
        "aria-level": level,
        "aria-selected": String(id === this._selected),
        "aria-expanded": children > 0 ? String(open) : null,
        dataset: { id, status },
      },
      el("span", { class: "twist", "aria-hidden": "true" }, children > 0 ? (open ? "▾" : "▸") : ""),
      el("span", { class: "dot", "aria-hidden": "true" }),
      el("span", { class: "id" }, id),
      status !== "active" && el("span", { class: "badge", dataset: { status } }, status),
      el("span", { class: "count" }),
    );
    node.style.paddingInlineStart = `${0.2 + (level - 1) * INDENT_REM}rem`;
    return node;
  }

  _recount() {
    for (const [id, node] of this._shown) {
      const newest = this._newest.get(id);
      if (newest === undefined) continue;
      node.dataset.phase = newest.phase;
      say(node.lastElementChild, whole(newest.count));
    }
  }

  _onClick(event) {
    const node = event.target.closest(".node");
    if (node === null) return;
    focusOne([...this._shown.values()], node);
    if (event.target.closest(".twist") && node.hasAttribute("aria-expanded")) this._toggle(node.dataset.id);
    else this._choose(node.dataset.id);
  }

  _onKey(event) {
    const node = event.target.closest(".node");
    if (node === null) return;
    const open = node.getAttribute("aria-expanded");
    if (event.key === "Enter" || event.key === " ") this._choose(node.dataset.id);
    else if (
      (event.key === "ArrowRight" && open === "false") ||
      (event.key === "ArrowLeft" && open === "true")
    )
      this._toggle(node.dataset.id);
    else return;
    event.preventDefault();
  }

  _toggle(id) {
    if (!this._closed.delete(id)) this._closed.add(id);
    this._draw();
  }
}
