"""Schedulers share 64 shards: one dies, one is stopped and wakes; the other has all of them within 10 s."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import pytest

from libs.bus.connection import connect
from libs.bus.schedulers import ask_schedulers
from libs.bus.telemetry import NoTelemetry
from libs.contracts.limits import SHARDS
from libs.settings.broker import BrokerSettings
from libs.supervisor.keys import seed_file
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

PERSONAS = 64
FAILOVER_S = 10.0
SETTINGS = {"LOOP_INTERVAL_MS": "200", "MAX_EVENTS": "100000"}


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def running() -> Iterator[Swarm]:
    arguments = ("--quiet", "--schedulers", "2", "--registries", "2", "--compressors", "2")
    with swarm(*arguments, settings=SETTINGS) as brought_up:
        for number in range(PERSONAS):
            body = {"persona_id": f"p{number}", "name": "P", "role": "r", "charter": "c"}
            brought_up.post("/v1/swarm/personas", body)
        eventually_sync(lambda: min(counts(brought_up).values()) > 0, 30, "everybody thinking")
        yield brought_up


def counts(running: Swarm) -> dict[str, int]:
    page = running.get("/v1/swarm/personas?limit=1000")
    return {state["identity"]["id"]: state["thought_count"] for state in page["personas"]}


def shards(running: Swarm) -> dict[str, int]:
    """How many shards each scheduler that answers owns."""

    async def ask() -> dict[str, int]:
        seed = str(seed_file(running.data / "keys", "gateway"))
        asker = BrokerSettings(user="gateway", url=running.nats_url, nkey_file=seed)
        async with connect(asker, "test", NoTelemetry()) as bus:
            return {one.instance: one.shards for one in await ask_schedulers(bus, living=2)}

    return asyncio.run(ask())


def shared(running: Swarm) -> bool:
    owned = shards(running)
    return len(owned) == 2 and sum(owned.values()) == SHARDS and min(owned.values()) > SHARDS / 4


def pid(running: Swarm, instance: str) -> int:
    return int({row["instance"]: row for row in running.ps()}[instance]["pid"])


def seconds_until_all_think(running: Swarm) -> float:
    began = time.monotonic()
    before = eventually_sync(lambda: last_thoughts(running), 30, "thoughts")

    def all_went_on() -> bool:
        now = last_thoughts(running)
        return all(now[name] > before[name] for name in before)

    eventually_sync(all_went_on, 60, "everybody thinking again")
    return time.monotonic() - began


def last_thoughts(running: Swarm) -> dict[str, int]:
    """By the stream: counters are not to be had while a shard has no owner."""
    return {
        e["persona_id"]: e["payload"]["thought_count"] for e in running.events() if "thinking" in e["payload"]
    }


def assert_no_gap_and_no_repeat(running: Swarm) -> None:
    seen: dict[str, int] = {}
    for event in running.events():
        if "thinking" in event["payload"]:
            name = event["persona_id"]
            assert event["payload"]["thought_count"] == seen.get(name, 0) + 1, name
            seen[name] = event["payload"]["thought_count"]


@pytest.mark.timeout(180)
def test_two_schedulers_share_and_a_killed_one_costs_less_than_ten_seconds(running: Swarm) -> None:
    eventually_sync(lambda: shared(running), 30, "shards shared")
    os.kill(pid(running, "scheduler-1"), signal.SIGKILL)
    assert seconds_until_all_think(running) < FAILOVER_S
    eventually_sync(lambda: shared(running), 30, "shards shared again")
    assert_no_gap_and_no_repeat(running)


@pytest.mark.fact("3.3")
@pytest.mark.timeout(180)
def test_a_stopped_scheduler_is_replaced_and_commits_nothing_when_it_wakes(running: Swarm) -> None:
    eventually_sync(lambda: shared(running), 30, "shards shared")
    stopped = pid(running, "scheduler-2")
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert seconds_until_all_think(running) < FAILOVER_S
        assert shards(running) == {"scheduler-1": SHARDS}
        assert running.get("/v1/cognition/status")["running"]
    finally:
        os.kill(stopped, signal.SIGCONT)
    eventually_sync(lambda: shared(running), 30, "shards shared again")
    assert pid(running, "scheduler-2") == stopped, "it woke, and was not started anew"
    seconds_until_all_think(running)
    assert_no_gap_and_no_repeat(running)


def creates(running: Swarm) -> bool:
    body = {"name": "P", "role": "r", "charter": "c"}
    return running.http("POST", "/v1/swarm/personas", body).status == 200


@pytest.mark.timeout(180)
@pytest.mark.parametrize("service", ["registry", "compressor"])
def test_a_standby_takes_over(running: Swarm, service: str) -> None:
    for number in (1, 2):
        os.kill(pid(running, f"{service}-{number}"), signal.SIGKILL)
        began = time.monotonic()
        eventually_sync(lambda: creates(running), FAILOVER_S, "a persona created")
        assert seconds_until_all_think(running) < FAILOVER_S
        assert time.monotonic() - began < 2 * FAILOVER_S
        eventually_sync(lambda: all(row["ready"] for row in running.ps()), 30, "all ready again")
    assert_no_gap_and_no_repeat(running)
