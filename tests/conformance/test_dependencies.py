"""Personas that wait for others, as the API sets them [A15]."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.http import Answer
from tests.support.swarm import Swarm

PERSONA: dict[str, Any] = {"name": "n", "role": "critic", "charter": "Find what is wrong."}


def made(swarm: Swarm, *persona_ids: str) -> None:
    for persona_id in persona_ids:
        swarm.post("/v1/swarm/personas", PERSONA | {"persona_id": persona_id})


def put(swarm: Swarm, persona_id: str, **body: Any) -> Answer:
    return swarm.http("PUT", f"/v1/swarm/personas/{persona_id}/dependencies", body)


@pytest.mark.fact("A15")
def test_dependencies_are_set_shown_and_changed(quiet: Swarm) -> None:
    made(quiet, "dep-a", "dep-b", "dep-c")
    answer = put(quiet, "dep-c", waiting_for=["dep-b", "dep-a"])
    assert (answer.status, answer.json) == (
        200,
        {"persona_id": "dep-c", "waiting_for": ["dep-a", "dep-b"], "notify": []},
    )
    assert put(quiet, "dep-c", waiting_for=["dep-a", "dep-b"]).json == answer.json
    assert quiet.get("/v1/swarm/personas/dep-c")["waiting_for"] == ["dep-a", "dep-b"]
    assert put(quiet, "dep-b", notify=[]).json == {"persona_id": "dep-b", "waiting_for": [], "notify": []}
    assert put(quiet, "dep-a", notify=["dep-b", "dep-c"]).json["notify"] == ["dep-b", "dep-c"]
    assert quiet.get("/v1/swarm/personas/dep-c")["waiting_for"] == ["dep-a"]
    assert put(quiet, "dep-b", waiting_for=[]).json["waiting_for"] == []


@pytest.mark.fact("A15")
def test_a_cycle_is_refused_with_the_personas_on_it(quiet: Swarm) -> None:
    made(quiet, "dep-1", "dep-2", "dep-3")
    put(quiet, "dep-1", waiting_for=["dep-2"])
    put(quiet, "dep-2", waiting_for=["dep-3"])
    answer = put(quiet, "dep-3", waiting_for=["dep-1"])
    assert answer.status == 409
    assert answer.json["detail"].endswith("dep-3 → dep-1 → dep-2 → dep-3")
    assert quiet.get("/v1/swarm/personas/dep-3")["waiting_for"] == []


@pytest.mark.fact("A15")
def test_who_is_not_there_is_404_and_who_is_reaped_409(quiet: Swarm) -> None:
    made(quiet, "dep-x", "dep-y")
    quiet.post("/v1/swarm/personas/dep-y/reap")
    assert put(quiet, "nobody", waiting_for=["dep-x"]).status == 404
    assert put(quiet, "dep-x", waiting_for=["nobody"]).json["detail"] == "Persona not found: nobody"
    assert put(quiet, "dep-x", waiting_for=["dep-y"]).status == 409
    assert put(quiet, "dep-y", waiting_for=["dep-x"]).status == 409


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"waiting_for": "x"}', b'{"waiting_for": [""]}', b'{"notify": [1]}', b"{", b"\xff"]
)
def test_a_body_that_does_not_fit_is_refused(quiet: Swarm, body: bytes) -> None:
    made_path = "/v1/swarm/personas/root-thinker/dependencies"
    answer = quiet.http("PUT", made_path, raw=body, headers={"Content-Type": "application/json"})
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    plain = quiet.http("PUT", made_path, raw=b"{}", headers={"Content-Type": "text/plain"})
    assert plain.status == 415
