// Sending a message to a persona, and what becomes of it. Responses are text: they are shown, never obeyed.

import { post, segment } from "./api.js";
import { el, say } from "./dom.js";
import { clock } from "./text.js";

const KEPT = 20;
const PERSONAS_MOST = 200;

const WHY = {
  full: "its inbox is full of what is more urgent",
  failed: "it has failed as often as may be",
  unknown_persona: "there is no such persona",
  persona_reaped: "the persona is reaped",
};

export class Talk {
  constructor() {
    this._said = new Map();
    this._id = null;
    this._list = el("ol", { class: "talk-list", "aria-live": "polite", "aria-label": "Messages and responses" });
    this._text = el("textarea", { rows: 2, maxlength: 8000, required: true, "aria-label": "Message" });
    this._urgent = el("input", { type: "checkbox" });
    this._error = el("p", { class: "error", role: "alert", hidden: true });
    this._button = el("button", { type: "submit" }, "Send");
    this._form = el(
      "form",
      { class: "talk-form", onsubmit: (event) => this._submit(event) },
      this._text,
      el(
        "div",
        { class: "row" },
        this._button,
        el("label", { class: "check" }, this._urgent, " urgent"),
      ),
      this._error,
    );
    this._text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this._form.requestSubmit();
    });
    this.element = el("section", { class: "talk control" }, el("h3", {}, "Send a message"), this._form, this._list);
  }

  // Show what was sent to a persona from this page; `open` where more can be.
  show(id, open) {
    if (this._id !== id) {
      this._form.reset();
      this._error.hidden = true;
    }
    this._id = id;
    this._form.hidden = !open;
    this._render();
  }

  // An event of any persona: what becomes of a message is told even where another one is shown now.
  take(event) {
    const sent = this._said.get(event.persona_id);
    if (sent === undefined) return;
    const { payload } = event;
    if (event.event_type === "inbox_dropped") this._dropped(sent.get(payload.id), payload);
    if (event.event_type === "inbox_handled")
      for (const { id, outcome } of payload.items) this._handled(sent.get(id), outcome, payload);
    if (event.persona_id === this._id) this._render();
  }

  _dropped(message, { reason, error }) {
    if (message === undefined) return;
    message.state = "dropped";
    message.note = `Dropped: ${WHY[reason] ?? reason}${error ? ` (${error})` : ""}.`;
  }

  _handled(message, outcome, { will_respond: will, response, error }) {
    if (message === undefined || message.state === "handled") return;
    if (outcome === "failed") message.note = `A thought of it failed (${error}); it is tried again.`;
    if (outcome !== "handled") return;
    message.state = "handled";
    message.response = will ? response : null;
    message.note = will && response ? "" : "Read, and not answered.";
  }

  async _submit(event) {
    event.preventDefault();
    const content = this._text.value;
    const persona = this._id;
    const message = this._unsure(persona, content) ?? { id: freshId(), content };
    Object.assign(message, { at: new Date().toISOString(), state: "sending", note: "Sending …" });
    this._keep(persona, message);
    this._button.disabled = true;
    this._error.hidden = true;
    this._render();
    try {
      const body = { content, id: message.id, once: true, ...(this._urgent.checked ? { priority: 1 } : {}) };
      await post(`/v1/swarm/personas/${segment(persona)}/inbox`, body);
      if (message.state === "sending") Object.assign(message, { state: "stored", note: "Stored: it will be read." });
      if (this._text.value === content) this._text.value = "";
    } catch (refusal) {
      if (message.state === "sending") message.state = "unsure";
      say(this._error, refusal.message);
      this._error.hidden = false;
    } finally {
      this._button.disabled = false;
      this._render();
    }
  }

  // What was to be sent, and nobody knows whether it is stored: under its id it is sent once.
  _unsure(persona, content) {
    const sent = [...(this._said.get(persona)?.values() ?? [])];
    return sent.find((message) => message.state === "unsure" && message.content === content);
  }

  _keep(persona, message) {
    if (this._said.size > PERSONAS_MOST) this._said.clear();
    const sent = this._said.get(persona) ?? new Map();
    sent.delete(message.id);
    sent.set(message.id, message);
    if (sent.size > KEPT) sent.delete(sent.keys().next().value);
    this._said.set(persona, sent);
  }

  _render() {
    const said = [...(this._said.get(this._id)?.values() ?? [])].reverse();
    const sent = said.filter((message) => message.state !== "unsure");
    this._list.replaceChildren(...sent.map(shown));
    this._list.hidden = sent.length === 0;
  }
}

function shown({ content, at, state, note, response }) {
  return el(
    "li",
    { class: "message", dataset: { state } },
    el("div", { class: "line" }, el("span", { class: "who" }, "You"), el("time", { datetime: at }, clock(at))),
    el("p", { class: "text" }, content),
    response && el("p", { class: "response" }, response),
    note && el("p", { class: "quiet" }, note),
  );
}

// A UUID; `crypto.randomUUID` is there on some origins only.
function freshId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
}
