"""Personas that wait for others, through the whole system [A15]."""

from __future__ import annotations

import time

import pytest

from services.scheduler.dependencies import SILENT_S
from tests.life.support import make, make_rested, payloads, send, state, thoughts
from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm


def wait_for(up: Swarm, persona_id: str, *others: str) -> None:
    answer = up.http("PUT", f"/v1/swarm/personas/{persona_id}/dependencies", {"waiting_for": others})
    assert answer.status == 200, answer.body


@pytest.mark.fact("A15")
def test_who_waits_thinks_once_all_have_thought(up: Swarm) -> None:
    make_rested(up, "first", "second", "last")
    wait_for(up, "last", "first", "second")
    before = thoughts(up, "last")
    send(up, "first")
    eventually_sync(lambda: thoughts(up, "first") == 8, 30, "the first has thought")
    eventually_sync(lambda: state(up, "last")["life"]["waiting_for"] == ["second"], 30, "one is left")
    time.sleep(1)
    assert thoughts(up, "last") == before
    send(up, "second")
    eventually_sync(lambda: thoughts(up, "last") > before, 30, "all have thought")


@pytest.mark.fact("A15")
def test_who_waits_answers_messages_meanwhile(up: Swarm) -> None:
    make_rested(up, "silent", "answers")
    wait_for(up, "answers", "silent")
    before = thoughts(up, "answers")
    send(up, "answers")
    eventually_sync(lambda: payloads(up, "inbox_handled", "answers"), 30, "answered")
    time.sleep(1)
    assert thoughts(up, "answers") == before + 1, "what else its cycle holds waits"
    assert state(up, "answers")["life"]["waiting_for"] == ["silent"]


@pytest.mark.fact("A15")
def test_who_is_reaped_is_waited_for_no_more_and_that_is_said(up: Swarm) -> None:
    make_rested(up, "gone", "left")
    wait_for(up, "left", "gone")
    up.post("/v1/swarm/personas/gone/reap", {})
    (said,) = eventually_sync(lambda: payloads(up, "dependency_timed_out", "left"), 30, "said") or []
    assert said == {"dependency": "gone", "reason": "reaped"}
    send(up, "left")
    eventually_sync(lambda: thoughts(up, "left") == 8, 30, "it thinks as if it waited for nobody")
    assert len(payloads(up, "dependency_timed_out", "left")) == 1


@pytest.mark.long
@pytest.mark.fact("A15")
def test_who_is_silent_for_too_long_is_waited_for_no_more_and_that_is_said(up: Swarm) -> None:
    make_rested(up, "mute", "patient")
    wait_for(up, "patient", "mute")
    since, before = time.time(), thoughts(up, "patient")
    eventually_sync(lambda: state(up, "patient")["life"]["waiting_for"] == ["mute"], 30, "it waits")
    (said,) = eventually_sync(
        lambda: payloads(up, "dependency_timed_out", "patient"), SILENT_S + 30, "said"
    ) or []  # fmt: skip
    assert said == {"dependency": "mute", "reason": "silent"}
    assert time.time() - since >= SILENT_S - 1
    assert (thoughts(up, "patient"), state(up, "patient")["life"]["waiting_for"]) == (before, [])
    send(up, "patient")
    eventually_sync(lambda: thoughts(up, "patient") == before + 4, 30, "it ends its cycle meanwhile")
    send(up, "mute")
    eventually_sync(lambda: thoughts(up, "patient") > before + 4, 30, "who was silent has thought")
    assert len(payloads(up, "dependency_timed_out", "patient")) == 1, "said once"


@pytest.mark.fact("A15")
def test_a_cycle_is_refused_and_named(up: Swarm) -> None:
    for name in ("egg", "hen"):
        make(up, name)
    wait_for(up, "egg", "hen")
    answer = up.http("PUT", "/v1/swarm/personas/hen/dependencies", {"waiting_for": ["egg"]})
    assert answer.status == 409
    assert "egg" in answer.json["detail"] and "hen" in answer.json["detail"]
