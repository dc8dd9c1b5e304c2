"""No process burns a processor while what it needs is away: real processes, a real broker [H10]."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import nats
import psutil
import pytest

from tests.support.broker import Broker
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

WATCHED_S = 4.0
MOST = 0.08
"""Of one processor, of each process. They take under 0.02; a loop without pauses takes all of it."""

TRIES = 3
"""What something costs once, such as a start, may fall into one of them; a loop without pauses is in each."""


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    made = Broker()
    yield made
    made.close()


@pytest.fixture(scope="module")
def up(broker: Broker) -> Iterator[Swarm]:
    """Its model endpoint refuses connections from the beginning."""
    settings = {"THINKER_BASE_URL": "http://127.0.0.1:1/v1", "LOOP_INTERVAL_MS": "500"}
    with swarm("--quiet", "--nats-url", broker.url, settings=settings) as running:
        running.until_output("endpoint_given_up")
        yield running


def services(up: Swarm) -> dict[str, psutil.Process]:
    run = json.loads((up.data / "up.json").read_bytes())
    return {child["instance"]: psutil.Process(child["pid"]) for child in run["children"] if child["pid"]}


def used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def shares(up: Swarm) -> dict[str, float]:
    """What each process takes of one processor for a while."""
    watched = services(up)
    assert len(watched) == 5
    before = {name: used(process) for name, process in watched.items()}
    time.sleep(WATCHED_S)
    return {name: (used(process) - before[name]) / WATCHED_S for name, process in watched.items()}


async def delete_consumer(url: str) -> None:
    client = await nats.connect(url)
    try:
        await client.jetstream().delete_consumer("THINK", "thinkers")
    finally:
        await client.close()


@pytest.mark.fact("H10")
@pytest.mark.parametrize("away", ["the model", "the consumer of work", "the broker"])
def test_nobody_burns_a_processor_while_something_is_away(up: Swarm, broker: Broker, away: str) -> None:
    """In this order: each fault comes on top of those before."""
    if away == "the consumer of work":
        asyncio.run(delete_consumer(broker.url))
    if away == "the broker":
        broker.kill()
        eventually_sync(lambda: any("is away" in line for line in up.output), 40, "that it is away")
    found: list[dict[str, float]] = []
    while len(found) < TRIES and not (found and max(found[-1].values()) <= MOST):
        found.append(shares(up))
    assert {name: share for name, share in found[-1].items() if share > MOST} == {}, found
