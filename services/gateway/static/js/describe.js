// An event in words.

import { isThought } from "./rate.js";

const PHASES = new Set(["observe", "reflect", "test", "compress"]);
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
      return { ...base, text: JSON.stringify(payload) };
  }
}

function thought(base, payload) {
  const fallback = payload.source !== "model";
  return {
    ...base,
    phase: PHASES.has(payload.phase) ? payload.phase : "none",
    what: `${payload.phase} #${payload.thought_count}`,
    by: fallback ? "declared fallback" : `${payload.model}, ${payload.latency_ms} ms`,
    text: payload.thinking ?? "",
    why: fallback ? payload.error : null,
    group: "thoughts",
  };
}

// A persona's name: most events say it, the others only name its id.
function nameOf(id, said) {
  if (id === null) return "the loop";
  if (said === undefined) return names.get(id) ?? id;
  if (names.size > NAMES_MOST) names.clear();
  names.set(id, said);
  return said;
}
