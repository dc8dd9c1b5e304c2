// What the loop's status means, pure.

// "running", "waiting" (it is to run, and no scheduler ticks), "stopping", "stopped" or "disabled".
export function stateOf({ enabled, running, phase }) {
  if (!enabled) return "disabled";
  if (phase === "stopping") return phase;
  if (running) return "running";
  return phase === "running" ? "waiting" : "stopped";
}

// Whether it is to run, whatever it does.
export const isOn = (status) => ["running", "waiting"].includes(stateOf(status));

// Why active personas are not ticked that should be; null where all are.
export function untickedBecause(status) {
  if (!isOn(status)) return null;
  return status.not_ticked_because ?? (status.running ? null : "no scheduler ticks");
}
