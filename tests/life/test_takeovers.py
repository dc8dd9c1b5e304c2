"""What a scheduler forgets neither when it is killed nor when it is restarted [A2, A3, A5, A15, A17]."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from libs.contracts.limits import ITEM_ATTEMPTS
from services.scheduler.dependencies import SILENT_S
from tests.life.conftest import SETTINGS, reply, user_prompt
from tests.life.support import make, make_rested, payloads, send, state, thoughts, told_of_reaping
from tests.support.endpoint import Endpoint, endpoint
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm, swarm

POISON = "Say something that is no decision."


def poisoned(request: dict[str, Any]) -> str:
    return "I would rather not." if POISON in user_prompt(request) else reply(request)


@pytest.fixture(scope="module")
def undecided() -> Iterator[Endpoint]:
    """A model that answers one message with what is no decision."""
    with endpoint(poisoned) as running:
        yield running


@pytest.fixture(scope="module")
def own(undecided: Endpoint) -> Iterator[Swarm]:
    """A swarm whose scheduler may be killed."""
    with swarm("--quiet", settings=SETTINGS | {"THINKER_BASE_URL": undecided.base_url}) as running:
        yield running


def end_scheduler(up: Swarm, number: signal.Signals) -> None:
    """End the scheduler, and wait until the next one owns every shard."""
    pid = up.pid("scheduler")
    os.kill(pid, number)

    def is_back() -> bool:
        row = next((one for one in up.ps() if one["service"] == "scheduler"), None)
        return row is not None and row["pid"] != pid and row["ready"]

    eventually_sync(is_back, 30, "the next scheduler")


def inbox(up: Swarm, persona_id: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = up.get(f"/v1/swarm/personas/{persona_id}/inbox")["items"]
    return items


def tried(up: Swarm, persona_id: str, item_id: str) -> list[str]:
    """What became of an item so far, thought by thought."""
    handled = payloads(up, "inbox_handled", persona_id)
    return [one["outcome"] for event in handled for one in event["items"] if one["id"] == item_id]


def is_tried(up: Swarm, item_id: str, times: int) -> bool:
    return len(tried(up, "ann", item_id)) >= times


@pytest.mark.fact("A3")
@pytest.mark.fact("A5")
def test_attempts_go_on_counting_and_the_priority_stays_though_the_scheduler_is_killed_between_them(
    own: Swarm,
) -> None:
    make_rested(own, "ann")
    send(own, "ann", "Is anybody there?", source_id="room")
    eventually_sync(lambda: payloads(own, "inbox_handled", "ann"), 30, "handled")
    item = send(own, "ann", POISON, source_id="room")
    for attempt in range(1, ITEM_ATTEMPTS):
        eventually_sync(partial(is_tried, own, item, attempt), 30, f"attempt {attempt}")
        end_scheduler(own, signal.SIGKILL)
        shown = {one["id"]: (one["base_priority"], one["attempts"]) for one in inbox(own, "ann")}
        assert shown in ({item: (0.8, attempt)}, {item: (0.8, attempt + 1)}, {}), "perhaps tried again since"
    (gone,) = eventually_sync(lambda: payloads(own, "inbox_dropped", "ann"), 30, "set aside") or []
    assert (gone["id"], gone["reason"], gone["attempts"]) == (item, "failed", ITEM_ATTEMPTS)
    assert tried(own, "ann", item) == ["failed"] * (ITEM_ATTEMPTS - 1) + ["aside"]


@pytest.mark.fact("A2")
def test_what_is_sent_again_after_a_takeover_is_handled_once(own: Swarm) -> None:
    make_rested(own, "bob")
    send(own, "bob", "Is it calm?", id="letter")
    eventually_sync(lambda: tried(own, "bob", "letter"), 30, "handled")
    end_scheduler(own, signal.SIGKILL)
    send(own, "bob", "Is it calm?", id="letter")
    other = send(own, "bob", "And now?")
    eventually_sync(lambda: tried(own, "bob", other), 30, "what was sent behind it is handled")
    assert tried(own, "bob", "letter") == ["handled"]


@pytest.mark.fact("A15")
def test_who_has_thought_before_the_scheduler_is_killed_is_not_waited_for_again(own: Swarm) -> None:
    make_rested(own, "first", "second", "last")
    waits = {"waiting_for": ["first", "second"]}
    assert own.http("PUT", "/v1/swarm/personas/last/dependencies", waits).status == 200
    before = thoughts(own, "last")
    send(own, "first")
    eventually_sync(lambda: state(own, "last")["life"]["waiting_for"] == ["second"], 30, "one is left")
    end_scheduler(own, signal.SIGKILL)
    send(own, "second")
    eventually_sync(lambda: thoughts(own, "last") > before, SILENT_S / 2, "both have thought")
    assert payloads(own, "dependency_timed_out", "last") == []


@pytest.mark.fact("A17")
def test_the_idle_clock_goes_on_where_it_was_when_the_scheduler_is_restarted(own: Swarm) -> None:
    """By wall time, it stood while there was none; set to zero each time, nobody would be reaped."""
    ttl = 20
    make(own, "mayfly", idle_ttl_secs=ttl)
    eventually_sync(lambda: state(own, "mayfly")["life"]["idle_secs"] >= 5, 30, "it idles")
    end_scheduler(own, signal.SIGTERM)
    began, idle = time.monotonic(), state(own, "mayfly")["life"]["idle_secs"]
    assert 5 <= idle < ttl
    (reaped,) = told_of_reaping(own, "mayfly")
    assert ttl - idle - 2 <= time.monotonic() - began <= ttl - idle + 15, "a look may be some seconds away"
    assert reaped["reason"] == "idle_ttl"
