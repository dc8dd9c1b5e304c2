// The page: its parts, and what flows between them.

import { now } from "./api.js";
import { byId, el, say } from "./dom.js";
import { Forms } from "./forms.js";
import { Lineage } from "./lineage.js";
import { Live } from "./live.js";
import { Loop } from "./loop.js";
import { Notices, silence, thinking, unticked } from "./notices.js";
import { Persona } from "./persona.js";
import { Plot } from "./plot.js";
import { Rate, isThought, summary } from "./rate.js";
import { signedIn } from "./session.js";
import { Processes } from "./processes.js";
import { Snapshot } from "./snapshot.js";
import { isOn, stateOf, untickedBecause } from "./status.js";
import { Stream } from "./stream.js";
import { rateText } from "./text.js";

const SECOND_MS = 1000;
const AGAIN_MS = 2000;

const notices = new Notices();
const rate = new Rate();
const plot = new Plot(byId("plot"));
const live = new Live({ choose, empty: nothingLive });
const lineage = new Lineage({ choose, empty: nobody });
const snapshot = new Snapshot({ choose });
const forms = new Forms({
  created: (id) => {
    lineage.refresh();
    choose(id);
  },
  reaped: () => {
    lineage.refresh();
    persona.refresh();
  },
});
const persona = new Persona({
  choose,
  spawn: (identity) => forms.spawn(identity),
  reap: (identity) => forms.reap(identity),
  end: () => stream.last,
});
const loop = new Loop({ changed: onStatus, failed: (text) => notices.say("That did not work", text) });
const stream = new Stream({
  take: onEvent,
  skipped: (count, sequence) => {
    loop.missed += count;
    live.skipped(count, sequence);
  },
  state: (state) =>
    notices.set("stream", "The event stream is interrupted", state === "open" ? null : RECONNECTING),
});

const RECONNECTING = {
  text: "Connecting again; it goes on after the last event that was seen.",
  cures: [],
};

function onEvent(sequence, event) {
  if (isThought(event)) {
    rate.add(event);
    lineage.thought(event.persona_id, event.payload.phase, event.payload.thought_count);
  }
  if (event.event_type === "persona_spawned" || event.event_type === "persona_reaped") lineage.refresh();
  if (event.event_type === "snapshot_compressed") snapshot.refresh();
  live.take(sequence, event);
  persona.take(sequence, event);
}

function onStatus(status) {
  if (status === null) return;
  const { all, active } = lineage.size;
  if (all !== status.persona_count || active !== status.active_persona_count) lineage.refresh();
  if (status.snapshots_buffered > 0) snapshot.refresh();
  if (!loop.away) stream.check();
  live.refresh();
}

// Once a second: the plot, the figures that grow older, and what is to be said.
function everySecond() {
  const minute = rate.minute(now());
  const totals = summary(minute);
  plot.show(minute, totals);
  say(byId("rate"), rateText(totals.rate));
  byId("rate-note").replaceChildren(...share(totals));
  loop.ages();
  notices.set("thinking", ...thinking(totals, rate.lastError));
  const { status, away } = loop;
  if (status !== null && !away) {
    notices.set("unticked", ...unticked(status, loop.untickedMs));
    notices.set(
      "silence",
      ...silence(status, now() - Math.max(rate.lastThought ?? 0, Date.parse(status.started_at ?? 0))),
    );
  }
  live.refresh();
}

function share({ model, fallback }) {
  const entry = (kind, text) => [el("span", { class: `key ${kind}` }), text];
  if (model + fallback === 0) return ["none in the last minute"];
  if (model === 0) return entry("fallback", "declared fallbacks");
  if (fallback === 0) return entry("model", "of a model");
  return [
    ...entry("model", "model "),
    ...entry("fallback", `${Math.ceil((100 * fallback) / (model + fallback))} % fallback`),
  ];
}

function nothingLive(group) {
  if (group !== "all") return ["None of these among the newest events."];
  if (loop.status === null) return ["Waiting for the gateway …"];
  if (!loop.status.enabled)
    return [el("strong", {}, "The loop is disabled."), "Restart with CODETETHER_COGNITION_ENABLED=true."];
  if (stateOf(loop.status) === "waiting")
    return [el("strong", {}, "The loop waits."), `Why: ${untickedBecause(loop.status)}.`];
  if (!isOn(loop.status))
    return [
      el("strong", {}, "The loop is stopped."),
      "Start it, and thoughts appear here as they are stored.",
    ];
  if (loop.status.active_persona_count === 0)
    return [
      el("strong", {}, "Nobody is there to think."),
      "Make a persona, and it thinks with the next tick.",
    ];
  return ["Waiting for the first thought …"];
}

function nobody() {
  const create = el("button", { type: "button", onclick: () => forms.create() }, "New persona");
  return [
    el("strong", {}, "No personas yet."),
    "Starting the loop makes the first one, root-thinker; or make one of your own.",
    el("p", { class: "control" }, create),
  ];
}

// What is chosen stands in the address, so that it can be shared and survives a reload.
function choose(id) {
  const hash = id === null ? "" : `#${new URLSearchParams({ persona: id })}`;
  if (location.hash !== hash) history.replaceState(null, "", hash || location.pathname);
  lineage.select(id);
  persona.select(id);
}

const chosen = () => new URLSearchParams(location.hash.slice(1)).get("persona");

async function begin() {
  try {
    await stream.open();
    live.ready();
  } catch {
    setTimeout(begin, AGAIN_MS);
  }
}

// Nothing is asked of the gateway before it is known whether we may.
async function begun() {
  for (;;) {
    try {
      return await signedIn();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

window.addEventListener("hashchange", () => choose(chosen()));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && chosen() !== null && document.querySelector("dialog[open]") === null)
    choose(null);
});
await begun();
loop.watch();
lineage.refresh();
new Processes();
setInterval(everySecond, SECOND_MS);
await begin();
if (chosen() !== null) choose(chosen());
everySecond();
