// Creating, spawning and reaping.

import { post, segment } from "./api.js";
import { byId, say } from "./dom.js";
import { plain, some } from "./text.js";

const NUMBERS = [
  "max_spawn_depth",
  "max_branching_factor",
  "token_credits_per_minute",
  "cpu_credits_per_minute",
  "idle_ttl_secs",
];

export class Forms {
  constructor({ created, reaped }) {
    this._created = created;
    this._reaped = reaped;
    this._target = null;
    for (const dialog of document.querySelectorAll("dialog")) {
      dialog.querySelector("[data-close]")?.addEventListener("click", () => dialog.close());
    }
    byId("create").addEventListener("click", () => this.create());
    submit("persona-form", (fields) => this._create(fields));
    submit("reap-form", (fields) => this._reap(fields));
  }

  create() {
    open("persona-dialog", "New persona", {});
  }

  spawn(parent) {
    open("persona-dialog", `Spawn a child of ${parent.name}`, { parent_id: parent.id });
  }

  reap(identity) {
    this._target = identity;
    open("reap-dialog", `Reap ${identity.name}`, {});
  }

  async _create(fields) {
    const body = { name: fields.get("name"), role: fields.get("role"), charter: fields.get("charter") };
    for (const key of ["persona_id", "swarm_id"]) if (fields.get(key)) body[key] = fields.get(key);
    const policy = policyOf(fields);
    if (Object.keys(policy).length > 0) body.policy = policy;
    const parent = fields.get("parent_id");
    const path = parent ? `/v1/swarm/personas/${segment(parent)}/spawn` : "/v1/swarm/personas";
    const state = await post(path, body);
    this._created(state.identity.id);
  }

  async _reap(fields) {
    const body = { cascade: fields.get("cascade") === "on" };
    if (fields.get("reason")) body.reason = fields.get("reason");
    const answer = await post(`/v1/swarm/personas/${segment(this._target.id)}/reap`, body);
    this._reaped(answer.count === 0 ? "It was reaped already." : `Reaped ${some(answer.count, "persona")}.`);
  }
}

function policyOf(fields) {
  const policy = {};
  for (const key of NUMBERS) if (fields.get(key)) policy[key] = Number(fields.get(key));
  if (fields.get("share_memory")) policy.share_memory = fields.get("share_memory") === "true";
  return policy;
}

function open(id, title, values) {
  const dialog = byId(id);
  const form = dialog.querySelector("form");
  form.reset();
  for (const [name, value] of Object.entries(values)) form.elements[name].value = value;
  say(form.querySelector("h2"), plain(title));
  form.querySelector(".error").hidden = true;
  dialog.showModal();
}

// The dialog closes only when the work is done; what is refused is said in it.
function submit(id, work) {
  const form = byId(id);
  const button = form.querySelector("[type='submit']");
  const error = form.querySelector(".error");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    error.hidden = true;
    try {
      await work(new FormData(form));
      form.closest("dialog").close();
    } catch (refusal) {
      say(error, refusal.message);
      error.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
}
