// The event stream: what it holds of the last minute, then each event as it comes, none lost or repeated.

import { get } from "./api.js";

const BACKLOG = 2000;
const PAGE = 1000;
const AGAIN_MS = 1000;
const AGAIN_MOST_MS = 10000;
const MISSED = 3;
const HEARD = ["open", "heartbeat", "cognition", "perpetua", "lag", "error"];

// Calls take(sequence, event) for each event, skipped(count, sequence) for each `lag`, and
// state("open" | "away") as the connection comes and goes.
export class Stream {
  constructor({ take, skipped, state }) {
    this.last = 0;
    this.taken = 0;
    this._take = take;
    this._skipped = skipped;
    this._state = state;
    this._wait = AGAIN_MS;
    this._source = null;
    this._heardAt = 0;
    this._beatMs = Infinity;
  }

  // A connection can be dead and nobody says so: the gateway answers, and heartbeats are missing. Then another
  // one goes on after the last event.
  check() {
    if (this._source === null || this._source.readyState === EventSource.CLOSED) return;
    if (performance.now() < this._heardAt + MISSED * this._beatMs) return;
    this._source.close();
    this._connect();
  }

  async open() {
    await this._backlog();
    this._connect();
  }

  async _backlog() {
    const { last_sequence: end } = await get("/v1/cognition/events?limit=1");
    let after = this.taken > 0 ? this.last : Math.max(end - BACKLOG, 0);
    this.last = after;
    while (after < end) {
      const page = await get(`/v1/cognition/events?after=${after}&limit=${PAGE}`);
      if (page.events.length === 0) break;
      for (const { sequence, event } of page.events) this._one(sequence, event);
      after = page.next_after;
    }
  }

  _one(sequence, event) {
    this.last = sequence;
    this.taken += 1;
    this._take(sequence, event);
  }

  // A browser reconnects by itself with Last-Event-ID; where it gives up, at an answer that is no stream, we
  // do. Where nothing was held, `after=0` means from the first event.
  _connect() {
    const source = new EventSource(`/v1/cognition/stream?heartbeat=true&after=${this.last}`);
    const receive = (message) => this._one(Number(message.lastEventId), JSON.parse(message.data));
    const heard = () => (this._heardAt = performance.now());
    this._source = source;
    heard();
    for (const type of HEARD) source.addEventListener(type, heard);
    source.addEventListener("open", () => {
      this._wait = AGAIN_MS;
      this._state("open");
    });
    source.addEventListener("heartbeat", (message) => (this._beatMs = 1000 * Number(message.data)));
    source.addEventListener("cognition", receive);
    source.addEventListener("perpetua", receive);
    source.addEventListener("lag", (message) => {
      this.last = Number(message.lastEventId);
      this._skipped(Number(message.data.split(" ")[1]), this.last);
    });
    source.addEventListener("error", () => {
      this._state("away");
      if (source.readyState !== EventSource.CLOSED) return;
      setTimeout(() => this._connect(), this._wait);
      this._wait = Math.min(this._wait * 2, AGAIN_MOST_MS);
    });
  }
}

// Up to `limit` of a persona's newest events, newest first: looked for backwards from the stream's end.
export async function eventsOf(personaId, end, limit) {
  const found = [];
  let upTo = end;
  for (const reach of [PAGE, 20 * PAGE]) {
    const part = await between(personaId, Math.max(end - reach, 0), upTo);
    found.push(...part.reverse());
    upTo = Math.max(end - reach, 0);
    if (found.length >= limit || upTo === 0) break;
  }
  return found.slice(0, limit);
}

async function between(personaId, after, upTo) {
  const found = [];
  while (after < upTo) {
    const query = new URLSearchParams({ persona_id: personaId, after, limit: PAGE });
    const page = await get(`/v1/cognition/events?${query}`);
    if (page.events.length === 0) break;
    found.push(...page.events.filter((entry) => entry.sequence <= upTo));
    after = page.next_after;
  }
  return found;
}
