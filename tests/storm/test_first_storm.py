"""Fact 3.3: thoughts are 1, 2, 3, … for every persona, whatever process or broker is killed meanwhile.

A storm kills 20 processes of `perpetua up`, services and broker, with kill -9 at random under 40 personas at
100 ms. `PERPETUA_STORM_SEED=n just test tests/storm` repeats one.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from libs.supervisor.data_dir import DataDir
from tests.conformance.test_personas import create
from tests.storm.collector import Collector
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

PERSONAS = 40
KILLS = 20
SEED = int(os.environ.get("PERPETUA_STORM_SEED", "0")) or random.randrange(1, 10**6)


def populate(running: Swarm) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: create(running, f"p{n}", swarm_id="storm"), range(PERSONAS - 1)))


def rage(running: Swarm, rng: random.Random) -> list[str]:
    """Kill a random process again and again; return who was killed."""
    killed: list[str] = []
    folder = DataDir(running.data)
    while len(killed) < KILLS:
        time.sleep(rng.uniform(0.3, 2.0))
        record = folder.read()
        living = [child for child in record.children if child.lives()] if record is not None else []
        if living:
            victim = rng.choice(living)
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            killed.append(victim.instance)
    return killed


def calm(running: Swarm) -> dict[str, int]:
    """Wait until everybody thinks again, stop the loop, and return the thought count of each persona."""
    before = eventually_sync(lambda: counts(running), 60, "personas listed")

    def all_go_on() -> bool:
        now = counts(running)
        return all(now[name] > before[name] for name in before)

    eventually_sync(all_go_on, 60, "every persona thinking again")
    eventually_sync(lambda: running.http("POST", "/v1/cognition/stop").status == 200, 60, "a stop")
    return counts(running)


def counts(running: Swarm) -> dict[str, int]:
    page = running.get("/v1/swarm/personas?limit=1000")
    return {state["identity"]["id"]: state["thought_count"] for state in page["personas"]}


def events_of(thoughts: int) -> int:
    """How many events a persona's spawn and first so many thoughts make [3.7, 3.8]."""
    checks = sum(1 for n in range(1, thoughts + 1) if n % 4 == 3)
    proposals = sum(1 for n in range(1, thoughts + 1) if n % 8 == 2)
    return 1 + thoughts + checks + proposals


def assert_one_after_another(events: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Assert that each persona's thoughts are 1, 2, 3, … in order and return how many each has."""
    seen: dict[str, int] = {}
    identifiers: set[str] = set()
    for event in events:
        assert event["id"] not in identifiers, f"{event['id']} stands twice"
        identifiers.add(event["id"])
        if "thinking" in event["payload"]:
            persona = event["persona_id"]
            expected = seen.get(persona, 0) + 1
            assert event["payload"]["thought_count"] == expected, f"seed {SEED}: {persona}"
            seen[persona] = expected
    return seen


@pytest.mark.long
@pytest.mark.storm
@pytest.mark.fact("3.3")
@pytest.mark.fact("3.15")
@pytest.mark.timeout(300)
def test_after_a_storm_the_whole_stream_holds_every_thought_once_and_in_order() -> None:
    settings = {"LOOP_INTERVAL_MS": "100", "MAX_EVENTS": "1000000"}
    with swarm("--quiet", settings=settings) as running:
        populate(running)
        killed = rage(running, random.Random(SEED))
        final = calm(running)
        seen = assert_one_after_another(running.events())
        assert seen == final, f"seed {SEED}, killed {killed}"
        assert len(seen) == PERSONAS
        restarts = {row["instance"]: row["restarts"] for row in running.ps()}
        assert sum(restarts.values()) == KILLS
        assert max(restarts.values()) < KILLS, "a process that ends by itself is no part of the storm"


@pytest.mark.storm
@pytest.mark.fact("3.3")
@pytest.mark.timeout(300)
def test_after_a_storm_over_a_stream_of_32_events_a_subscriber_has_seen_no_gap_and_no_repeat() -> None:
    """What the stream has evicted must not be needed for being right."""
    settings = {"LOOP_INTERVAL_MS": "100", "MAX_EVENTS": "32"}
    with swarm("--quiet", settings=settings) as running, Collector(running.nats_url) as collector:
        populate(running)
        killed = rage(running, random.Random(SEED + 1))
        final = calm(running)
        last = running.get("/v1/cognition/events?limit=1")["last_sequence"]
        eventually_sync(lambda: collector.last_sequence >= last, 20, "the subscriber at the end")
        events = collector.events
    note = f"seed {SEED + 1}, killed {killed}"
    assert last == sum(events_of(count) for count in final.values()), note
    assert assert_no_repeat_and_no_gap_between_cuts(events, note) == final, note


def assert_no_repeat_and_no_gap_between_cuts(
    events: Iterable[tuple[int, dict[str, Any]]], note: str
) -> dict[str, int]:
    """Where the subscriber was cut off itself it lacks events, and knows it by their sequences.

    Returns the last thought count seen of each persona.
    """
    known: dict[str, int] = {}
    certain: set[str] = set()
    place = 0
    for sequence, event in events:
        assert sequence > place, note
        if sequence != place + 1:
            certain.clear()
        place = sequence
        name = event["persona_id"]
        if event["event_type"] == "persona_spawned":
            known[name] = 0
            certain.add(name)
        elif "thinking" in event["payload"]:
            count = event["payload"]["thought_count"]
            before = known.get(name, 0)
            assert count == before + 1 if name in certain else count > before, f"{note}: {name}"
            known[name] = count
            certain.add(name)
    return known
