"""Personas that rest, wake, and end for want of anything to think about [A11, A12, A17]."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from tests.life.conftest import reply
from tests.life.support import (
    charter,
    make,
    make_rested,
    payloads,
    rested,
    send,
    state,
    thoughts,
    told_of_reaping,
)
from tests.support.endpoint import Endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm

NAMES = [f"rest-{number}" for number in range(8)]
TRIES = 3
TTL_S = 6
"""An idle time in which a machine that stands still for some seconds ends no cycle early."""


@pytest.fixture(scope="module")
def resting(up: Swarm) -> list[str]:
    make_rested(up, *NAMES)
    time.sleep(3)
    return NAMES


@pytest.mark.fact("A11")
def test_who_rests_makes_no_call_and_stays_active(up: Swarm, model: Endpoint, resting: list[str]) -> None:
    before = {name: (thoughts(up, name), model.calls_about(charter(name))) for name in resting}
    time.sleep(4)
    after = {name: (thoughts(up, name), model.calls_about(charter(name))) for name in resting}
    assert after == before
    assert all(count == 4 and calls == 4 for count, calls in after.values())
    assert {state(up, name)["status"] for name in resting} == {"active"}


@pytest.mark.fact("A11")
def test_while_everybody_rests_processes_seldom_wake(up: Swarm, resting: list[str]) -> None:
    """What rest costs is what waking costs: about 0.2 ms each time, 16 a second for all five.

    Personas of other tests may have something to do in one of the tries; who does not rest is awake in each.
    """
    assert resting
    pids = {row["instance"]: int(row["pid"]) for row in up.ps() if row["service"] != "nats"}
    assert len(pids) == 5
    time.sleep(3)
    found: list[dict[str, float]] = []
    while len(found) < TRIES and not (found and seldom(found[-1])):
        before = {name: waits(pid) for name, pid in pids.items()}
        time.sleep(6)
        found.append({name: (waits(pid) - before[name]) / 6 for name, pid in pids.items()})
    assert seldom(found[-1]), found


def seldom(rates: dict[str, float]) -> bool:
    return max(rates.values()) <= 12 and sum(rates.values()) < 40


def waits(pid: int) -> int:
    """How often a process's threads have waited for something so far."""
    lines = (task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/status"))
    return sum(
        int(line.split()[1])
        for text in lines
        for line in text.splitlines()
        if "nonvol" not in line and "voluntary_ctxt_switches" in line
    )


@pytest.mark.fact("A11")
@pytest.mark.fact("A12")
@pytest.mark.parametrize(("name", "priority"), [("rest-1", 0.9), ("rest-2", 0.4)])
def test_a_message_wakes_who_rests_at_once(
    up: Swarm, model: Endpoint, resting: list[str], name: str, priority: float
) -> None:
    """A machine that stands still meanwhile gets another try."""
    items: list[str] = []
    took: list[float] = []
    while len(took) < TRIES and not (took and took[-1] < 1):
        took.append(seconds_until_asked(up, model, name, priority, items))
        handled = eventually_sync(lambda: payloads(up, "inbox_handled", name)[len(took) - 1 :], 30, "handled")
        assert [one["id"] for payload in handled or [] for one in payload["items"]] == items[-1:]
        ended = 4 + 4 * len(items)
        eventually_sync(
            partial(has_thought, up, name, ended), 30, "it ends the cycle that it began, and rests"
        )
    assert took[-1] < 1, f"it waited for its next look: {took}"


def has_thought(up: Swarm, name: str, times: int) -> bool:
    return thoughts(up, name) == times


def seconds_until_asked(up: Swarm, model: Endpoint, name: str, priority: float, items: list[str]) -> float:
    """Send a message while the next look is far; return how long it takes until the model is asked."""
    before = model.calls_about(charter(name))
    eventually_sync(lambda: _far(up, name), 30, "its next look is far")
    began = time.monotonic()
    items.append(send(up, name, priority=priority))
    eventually_sync(lambda: model.calls_about(charter(name)) > before, 30, "the model is asked")
    return time.monotonic() - began


def _far(up: Swarm, name: str) -> bool:
    """Whether its next look is more than two seconds away."""
    due = state(up, name)["life"]["next_look_at"]
    return due is not None and due > time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + 2))


@pytest.mark.fact("A17")
def test_whom_nothing_concerns_for_its_whole_idle_time_is_reaped_and_says_why(up: Swarm) -> None:
    make(up, "mayfly", idle_ttl_secs=TTL_S)
    make(up, "oak", idle_ttl_secs=3600)
    rested(up, "oak")
    (reaped,) = told_of_reaping(up, "mayfly")
    assert state(up, "mayfly")["status"] == "reaped"
    assert reaped["reason"] == "idle_ttl"
    assert state(up, "oak")["status"] == "active"
    assert thoughts(up, "mayfly") == 4


@pytest.mark.fact("A17")
@pytest.mark.fact("2.8")
def test_children_of_who_idles_out_stay_and_think_on(up: Swarm) -> None:
    """It is reaped without cascade, and the credits of who is reaped still bound those below it."""
    make(up, "elder", idle_ttl_secs=TTL_S)
    heir = {"persona_id": "heir", "name": "heir", "role": "critic", "charter": charter("heir")}
    up.post("/v1/swarm/personas/elder/spawn", heir | {"policy": {"idle_ttl_secs": 3600}})
    assert told_of_reaping(up, "elder") == [{"reason": "idle_ttl", "cascade": False}]
    assert state(up, "elder")["status"] == "reaped"
    assert (state(up, "heir")["status"], state(up, "heir")["identity"]["parent_id"]) == ("active", "elder")
    item = send(up, "heir")
    handled = eventually_sync(lambda: payloads(up, "inbox_handled", "heir"), 30, "it thinks on") or []
    assert [one["id"] for payload in handled for one in payload["items"]] == [item]
    assert payloads(up, "budget_paused", "heir") == []


@pytest.mark.fact("A17")
def test_fallbacks_stop_the_idle_clock(up: Swarm, model: Endpoint) -> None:
    model.reply = lambda request: 500 if charter("moth") in str(request) else reply(request)
    make(up, "moth", idle_ttl_secs=2)
    eventually_sync(lambda: thoughts(up, "moth") >= 4, 30, "it thinks by fallback")
    time.sleep(3)
    assert state(up, "moth")["status"] == "active"
