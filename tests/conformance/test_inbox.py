"""Sending to personas over HTTP [A1, A5]."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.support.http import Answer
from tests.support.swarm import Swarm

PERSONA: dict[str, Any] = {"name": "n", "role": "critic", "charter": "Find what is wrong."}


def made(swarm: Swarm, persona_id: str, **more: Any) -> str:
    swarm.post("/v1/swarm/personas", PERSONA | {"persona_id": persona_id} | more)
    return persona_id


def send(swarm: Swarm, path: str, **fields: Any) -> Answer:
    return swarm.http("POST", f"/v1/swarm/{path}/inbox", fields)


def refused(answer: Answer) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status, answer.json["detail"]


@pytest.mark.fact("A1")
def test_a_content_is_enough_and_the_answer_names_the_item(quiet: Swarm) -> None:
    made(quiet, "inbox-1")
    answer = send(quiet, "personas/inbox-1", content="Is it calm?")
    assert answer.status == 200
    assert answer.json["persona_id"] == "inbox-1"
    assert UUID(answer.json["item_id"])


@pytest.mark.fact("A1")
def test_everything_that_an_item_may_have_is_taken(quiet: Swarm) -> None:
    made(quiet, "in/box 2")
    answer = send(
        quiet,
        "personas/in%2Fbox%202",
        content="x" * 8000,
        domain="vision",
        source_id="camera 3",
        priority=1,
        mentions=["@Ann", "Bob"],
        timestamp="2026-01-02T03:04:05+02:00",
        id="mine-1",
        once=True,
    )
    assert answer.json == {"item_id": "mine-1", "persona_id": "in/box 2"}
    assert quiet.get("/v1/swarm/personas/in%2Fbox%202/inbox/mine-1") == answer.json


@pytest.mark.fact("A1")
@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "content"),
        ({"content": ""}, "content"),
        ({"content": "x" * 8001}, "content"),
        ({"content": 1}, "content"),
        ({"content": "c", "domain": ""}, "domain"),
        ({"content": "c", "priority": 1.1}, "priority"),
        ({"content": "c", "priority": "1"}, "priority"),
        ({"content": "c", "mentions": ["n"] * 33}, "mentions"),
        ({"content": "c", "timestamp": "2026-01-02T03:04:05"}, "timestamp"),
        ({"content": "c", "timestamp": "yesterday"}, "timestamp"),
        ({"content": "c", "source_id": None}, "source_id"),
        ({"content": "c", "id": "a b"}, "id"),
        ({"content": "c", "once": True}, "`id`"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field(quiet: Swarm, fields: dict[str, Any], field: str) -> None:
    for path in ("personas/root-thinker", "swarms/swarm-core"):
        status, detail = refused(send(quiet, path, **fields))
        assert status == 400
        assert field in detail
    assert refused(send(quiet, "swarms/swarm-core", content="c", answers_most=0))[0] == 400


@pytest.mark.fact("A1")
def test_who_is_not_there_is_404_and_who_is_reaped_409(quiet: Swarm) -> None:
    assert refused(send(quiet, "personas/nobody", content="c")) == (404, "Persona not found: nobody")
    assert refused(send(quiet, "swarms/none", content="c")) == (404, "No persona of swarm none lives")
    made(quiet, "inbox-3", swarm_id="inbox-gone")
    quiet.post("/v1/swarm/personas/inbox-3/reap")
    assert refused(send(quiet, "personas/inbox-3", content="c"))[0] == 409
    assert refused(send(quiet, "swarms/inbox-gone", content="c"))[0] == 404


@pytest.mark.parametrize("path", ["personas/%ff", "personas/%00", "swarms/%2e%2e", "swarms/" + "x" * 129])
def test_a_path_that_is_no_id_is_refused(quiet: Swarm, path: str) -> None:
    status, detail = refused(send(quiet, path, content="c"))
    assert status == 400
    assert f"{path.split('s/')[0]} id in the path" in detail


@pytest.mark.fact("A5")
def test_a_post_reaches_each_of_its_swarm_s_personas_once(quiet: Swarm) -> None:
    for number in range(3):
        made(quiet, f"inbox-s{number}", swarm_id="inbox swarm")
    answer = send(quiet, "swarms/inbox%20swarm", content="All?", answers_most=1, id="post-1", once=True)
    assert answer.json == {"post_id": "post-1", "swarm_id": "inbox swarm", "personas": 3}
    assert send(quiet, "swarms/inbox%20swarm", content="All?", id="post-1", once=True).json == answer.json
    missing = quiet.http("GET", "/v1/swarm/personas/inbox-s0/inbox/post-1")
    assert refused(missing) == (404, "Nothing was sent to persona inbox-s0 under the id post-1")
