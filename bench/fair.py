"""Turns across schedulers: who is shared out unevenly among them, and all of whom are due [A14].

    python -m bench.fair [--personas 240] [--share 0.85] [--interval-ms 500] [--slots 16] [--json]

Two schedulers under `perpetua up` with adaptive cadence, and a stand-in of 250 ms for the endpoint that
thinks of so many at once. Names are chosen so that `--share` of the personas fall to the first scheduler. All
are due at the start, for a cycle of four thoughts each, many times more than can be thought of at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bench.standin import standin
from bench.subscriber import Subscriber
from bench.swarms import create, percentile
from libs.bus.presence import chosen
from libs.contracts.tokens import shard_of
from tests.support.eventually import eventually_sync
from tests.support.swarm import swarm

CYCLE = 4
SCHEDULERS = ("scheduler-1", "scheduler-2")
LATENCY_S = 0.25
LOAD_MOST = 8
_SERVICE_S = 2.0
"""From a thought's dispatch to its event, at most: its own time, its wait for a thinker, its storing."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--personas", type=int, default=240)
    parser.add_argument("--share", type=float, default=0.85)
    parser.add_argument("--interval-ms", type=int, default=500)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.personas, options.share, options.interval_ms, options.slots)
    if options.json:
        return print(json.dumps(found, indent=2))
    for name, value in found.items():
        print(f"{name:44} {value}")
    return None


def measure(personas: int, share: float, interval_ms: int, slots: int) -> dict[str, Any]:
    """Let everybody think a cycle, and return how fair that was, and how fast."""
    names = {SCHEDULERS[0]: round(personas * share), SCHEDULERS[1]: personas - round(personas * share)}
    people = {who: named(who, count) for who, count in names.items()}
    with (
        standin(1000 * LATENCY_S, slots=slots) as url,
        swarm("--quiet", "--schedulers", "2", settings=_settings(url, slots)) as up,
        (seen := Thought(up.nats_url)),
    ):
        rows = [
            {"persona_id": name, "name": name, "role": "critic", "charter": "Find what is wrong."}
            for name in (*people[SCHEDULERS[0]], *people[SCHEDULERS[1]])
        ]
        asyncio.run(create(up.url, rows, 8))
        up.post("/v1/cognition/start", {"loop_interval_ms": interval_ms})
        began = seen.now()
        eventually_sync(lambda: seen.ended >= CYCLE * personas, 280, "everybody's cycle")
        took = seen.now() - began
    ends = {name: at for name, at in seen.ends.items() if name in {row["name"] for row in rows}}
    waits = {who: [ends[name][0] - began for name in people[who]] for who in SCHEDULERS}
    return {
        "personas by scheduler": [len(people[who]) for who in SCHEDULERS],
        "thoughts that broke A14, at least": violations(ends, began, interval_ms / 1000),
        "first thought s, p50, by scheduler": [round(percentile(waits[who], 0.5), 1) for who in SCHEDULERS],
        "first thought s, slowest": [round(max(waits[who]), 1) for who in SCHEDULERS],
        "cycle ended s, by scheduler": [
            round(max(ends[name][CYCLE - 1] - began for name in people[who]), 1) for who in SCHEDULERS
        ],
        "thoughts/s": round(CYCLE * personas / took, 1),
        "of what the endpoint can": round(CYCLE * personas / took * LATENCY_S / slots, 2),
    }


def named(scheduler: str, count: int) -> list[str]:
    """Return so many names of personas whose shards fall to a scheduler of the two."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        number += 1
        name = f"fair-{number}"
        if chosen(SCHEDULERS, f"shard-{shard_of(name)}") == scheduler:
            found.append(name)
    return found


def violations(ends: Mapping[str, Sequence[float]], began: float, interval_s: float) -> int:
    """Return how many thoughts were certainly somebody's second while another waited for its first [A14].

    `ends` is when each persona's thoughts ended, in order. Nobody outside sees when a persona is due or its
    thought dispatched; this counts only what cannot have been otherwise.
    """
    waits = []
    for ended in ends.values():
        due = [began + interval_s, *(at + LOAD_MOST * interval_s for at in ended[:-1])]
        waits += [(begin, end - _SERVICE_S) for begin, end in zip(due, ended, strict=True)]
    waits = [(begin, end) for begin, end in waits if end - begin > 2 * interval_s]
    broken = 0
    for ended in ends.values():
        for before, first, second in zip([began, *ended], ended, ended[1:], strict=False):
            # `first` was dispatched after `before`, and `second` after `first`.
            broken += any(
                before >= begin and first > begin + 2 * interval_s and second < end for begin, end in waits
            )
    return broken


class Thought(Subscriber):
    """Notes when each thought of each persona ended."""

    def __init__(self, nats_url: str) -> None:
        super().__init__(nats_url)
        self.ends: dict[str, list[float]] = defaultdict(list)
        self._last: dict[str, int] = {}
        self.ended = 0

    def note(self, event: dict[str, Any], at: float) -> None:
        count = event["payload"].get("thought_count")
        name = event["persona_id"]
        if count is None or not name.startswith("fair-") or self._last.get(name) == count:
            return
        self._last[name] = count
        self.ends[name].append(at)
        self.ended += 1

    def now(self) -> float:
        """Return the time by the clock of the notes."""
        return time.time()


def _settings(url: str, slots: int) -> dict[str, str]:
    return {
        "THINKER_BASE_URL": url,
        "THINKER_CONCURRENCY": str(slots),
        "CADENCE": "adaptive",
        "MAX_EVENTS": "50000",
        "TOKEN_CREDITS_PER_MINUTE": "4000000000",
        "CPU_CREDITS_PER_MINUTE": "4000000000",
        "THINKER_TIMEOUT_MS": "30000",
        "AUTO_START": "false",
    }


if __name__ == "__main__":
    main()
