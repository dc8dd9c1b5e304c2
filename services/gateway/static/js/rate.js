// Thoughts per second over the last minute, by where they came from.

export const SECONDS = 60;

const THOUGHTS = new Set([
  "thought_generated",
  "hypothesis_raised",
  "check_requested",
  "snapshot_compressed",
]);

// What a swarm remembers is an event of the same type, of no persona: no thought.
export const isThought = (event) => THOUGHTS.has(event.event_type) && event.persona_id !== null;

export class Rate {
  constructor() {
    this._buckets = new Map();
    this.lastThought = null;
    this.lastError = null;
  }

  add(event) {
    const at = Date.parse(event.timestamp);
    const second = Math.floor(at / 1000);
    const bucket = this._buckets.get(second) ?? { model: 0, fallback: 0 };
    bucket[event.payload.source === "model" ? "model" : "fallback"] += 1;
    this._buckets.set(second, bucket);
    this.lastThought = Math.max(this.lastThought ?? 0, at);
    if (event.payload.source !== "model") this.lastError = event.payload.error;
  }

  // The 60 whole seconds before `now`, oldest first. Older ones are forgotten.
  minute(now) {
    const end = Math.floor(now / 1000);
    for (const second of this._buckets.keys()) if (second < end - SECONDS) this._buckets.delete(second);
    return Array.from(
      { length: SECONDS },
      (_, i) => this._buckets.get(end - SECONDS + i) ?? { model: 0, fallback: 0 },
    );
  }
}

// Totals of a minute, and the rate of its last ten seconds.
export function summary(minute) {
  const sum = (part, of) => part.reduce((total, bucket) => total + of(bucket), 0);
  const recent = minute.slice(-10);
  return {
    model: sum(minute, (b) => b.model),
    fallback: sum(minute, (b) => b.fallback),
    rate: sum(recent, (b) => b.model + b.fallback) / recent.length,
    most: Math.max(...minute.map((b) => b.model + b.fallback)),
  };
}
