// An event in words.

import { isThought } from "./rate.js";
import { some } from "./text.js";

const PHASES = new Set(["observe", "reflect", "test", "compress"]);
const FALLBACK = "declared fallback";
const NAMES_MOST = 20000;

const names = new Map();

// { phase, who, what, by, text, why, source, group }; texts of personas stay what they are.
export function describe(event) {
  const payload = event.payload ?? {};
  const who = nameOf(event.persona_id, payload.persona?.name ?? payload.name);
  const base = {
    phase: "none",
    who,
    what: event.event_type,
    by: "",
    text: "",
    why: null,
    source: payload.source ?? null,
    group: "other",
  };
  if (isThought(event)) return thought(base, payload);
  switch (event.event_type) {
    case "snapshot_compressed":
      return rollUp(base, event.swarm_id, payload);
    case "check_result":
      if (payload.stopped)
        return { ...base, what: "stopped", text: payload.reason ?? "", group: "lifecycle" };
      return {
        ...base,
        phase: "test",
        what: `check result #${payload.thought_count}`,
        text: payload.result_excerpt,
        group: "proposals",
      };
    case "proposal_created":
      return {
        ...base,
        phase: "reflect",
        what: "proposes",
        text: payload.rationale_excerpt ?? payload.title,
        group: "proposals",
      };
    case "persona_spawned":
      return {
        ...base,
        what: "spawned",
        text: `${payload.role}, depth ${payload.depth}`,
        group: "lifecycle",
      };
    case "persona_reaped":
      return { ...base, what: "reaped", text: payload.reason ?? "", group: "lifecycle" };
    default:
      return ofLife(event.event_type, base, payload) ?? { ...base, text: JSON.stringify(payload) };
  }
}

// Events that this project adds: inboxes, credits, dependencies.
function ofLife(type, base, payload) {
  switch (type) {
    case "inbox_received":
      return {
        ...base,
        what: `is sent ${payload.source_id ? `by ${payload.source_id}` : payload.domain}`,
        by: `priority ${Number(payload.priority).toFixed(2)}`,
        text: payload.content_excerpt,
        group: "messages",
      };
    case "inbox_handled":
      return { ...base, ...handled(payload), group: "messages" };
    case "inbox_dropped":
      return {
        ...base,
        what: "drops an item",
        by: payload.reason,
        text: payload.content,
        why: payload.error,
        group: "messages",
      };
    case "budget_paused":
      return { ...base, what: `waits for credits of ${payload.account}`, text: payload.reason, group: "lifecycle" };
    case "budget_resumed":
      return { ...base, what: `has credits of ${payload.account} again`, group: "lifecycle" };
    case "dependency_timed_out":
      return { ...base, what: "waits no longer", text: Object.values(payload).join(", "), group: "lifecycle" };
    default:
      return null;
  }
}

function handled({ items, will_respond: will, response, error }) {
  const read = some(items.length, "item");
  if (will === null) return { what: `could not decide about ${read}`, text: "", why: error };
  return will && response
    ? { what: `answers ${read}`, text: response }
    : { what: `reads ${read} and does not answer`, text: "" };
}

function thought(base, payload) {
  const fallback = payload.source !== "model";
  return {
    ...base,
    phase: PHASES.has(payload.phase) ? payload.phase : "none",
    what: `${payload.phase} #${payload.thought_count}`,
    by: (fallback ? FALLBACK : `${payload.model}, ${payload.latency_ms} ms`) + took(payload),
    text: payload.thinking ?? "",
    why: fallback ? payload.error : null,
    group: "thoughts",
  };
}

// What the personas of a swarm remember together.
function rollUp(base, swarm, payload) {
  const fallback = payload.source !== "model";
  return {
    ...base,
    phase: "compress",
    who: `swarm ${swarm}`,
    what: "remembers",
    by: `${some(payload.cold_snapshot_count, "snapshot")}, ${fallback ? FALLBACK : payload.model}`,
    text: payload.thinking ?? "",
    why: payload.error,
  };
}

const took = ({ inbox_item_ids: ids }) => (ids?.length > 0 ? `, took up ${some(ids.length, "item")}` : "");

// A persona's name: most events say it, the others only name its id.
function nameOf(id, said) {
  if (id === null) return "the loop";
  if (said === undefined) return names.get(id) ?? id;
  if (names.size > NAMES_MOST) names.clear();
  names.set(id, said);
  return said;
}
