"""Facts 2.x about creation, over HTTP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.support.eventually import eventually_sync
from tests.support.swarm import Swarm

WHO = {"name": "n", "role": "r", "charter": "c"}


def create(swarm: Swarm, persona_id: str, **more: Any) -> Any:
    return swarm.post("/v1/swarm/personas", {"persona_id": persona_id, **WHO, **more})


def public(swarm: Swarm) -> int:
    """Make a persona; return where its event stands, once it is public as all decided before is."""
    name = f"last-{uuid4()}"
    create(swarm, name)
    found = eventually_sync(
        lambda: next((e["sequence"] for e in swarm.events() if e["persona_id"] == name), None), 30
    )
    return int(found or 0)


def refused(swarm: Swarm, path: str, body: dict[str, Any]) -> tuple[int, str]:
    answer = swarm.http("POST", path, body)
    return answer.status, answer.json["detail"]


@pytest.fixture
def root(quiet: Swarm) -> str:
    name = f"root-{uuid4()}"
    create(quiet, name, swarm_id="swarm-x")
    return name


@pytest.mark.fact("2.1")
def test_a_partial_policy_is_completed_from_the_parent_else_from_the_default(quiet: Swarm) -> None:
    name = str(uuid4())
    policy = create(quiet, name, policy={"max_branching_factor": 2, "share_memory": True})["policy"]
    assert policy == {
        "max_spawn_depth": 4,
        "max_branching_factor": 2,
        "token_credits_per_minute": 20000,
        "cpu_credits_per_minute": 10000,
        "idle_ttl_secs": 3600,
        "share_memory": True,
    }
    child = quiet.post(f"/v1/swarm/personas/{name}/spawn", {**WHO, "policy": {"idle_ttl_secs": 7}})
    assert child["policy"] == policy | {"idle_ttl_secs": 7}


@pytest.mark.fact("2.2")
def test_a_new_persona_is_active_with_zero_thoughts_and_no_tick(quiet: Swarm) -> None:
    state = quiet.post("/v1/swarm/personas", WHO)
    assert UUID(state["identity"]["id"]).version == 4
    assert (state["status"], state["thought_count"], state["last_tick_at"]) == ("active", 0, None)
    assert state["updated_at"] == state["identity"]["created_at"]
    assert set(state["identity"]) == {
        "id", "name", "role", "charter", "swarm_id", "parent_id", "depth", "created_at",
    }  # fmt: skip


@pytest.mark.fact("2.3")
def test_swarm_depth_and_policy_come_from_the_parent_unless_given(quiet: Swarm, root: str) -> None:
    child = quiet.post(f"/v1/swarm/personas/{root}/spawn", WHO)
    assert child["identity"]["swarm_id"] == "swarm-x"
    assert child["identity"]["depth"] == 1
    assert child["identity"]["parent_id"] == root
    other = quiet.post(f"/v1/swarm/personas/{root}/spawn", {**WHO, "swarm_id": "other"})
    assert other["identity"]["swarm_id"] == "other"


@pytest.mark.fact("2.4")
@pytest.mark.fact("5.2")
def test_refusals_have_their_texts_and_statuses(quiet: Swarm, root: str) -> None:
    spawn = f"/v1/swarm/personas/{root}/spawn"
    assert refused(quiet, "/v1/swarm/personas/nobody/spawn", WHO) == (404, "Parent persona not found: nobody")
    assert refused(quiet, "/v1/swarm/personas", {"persona_id": root, **WHO}) == (
        409, f"Persona id already exists: {root}",
    )  # fmt: skip
    for _ in range(4):
        quiet.post(spawn, WHO)
    assert refused(quiet, spawn, {"persona_id": root, **WHO}) == (
        400, f"Parent {root} reached branching limit 4",
    )  # fmt: skip
    quiet.post(f"/v1/swarm/personas/{root}/reap")
    assert refused(quiet, spawn, WHO) == (409, f"Parent persona {root} is reaped")


@pytest.mark.fact("2.4")
def test_depth_is_limited_by_the_parent_and_never_for_a_root(quiet: Swarm) -> None:
    name = str(uuid4())
    create(quiet, name, policy={"max_spawn_depth": 2})
    one = quiet.post(f"/v1/swarm/personas/{name}/spawn", WHO)["identity"]["id"]
    two = quiet.post(f"/v1/swarm/personas/{one}/spawn", WHO)["identity"]["id"]
    assert refused(quiet, f"/v1/swarm/personas/{two}/spawn", WHO) == (400, "Spawn depth 3 exceeds limit 2")
    none = str(uuid4())
    create(quiet, none, policy={"max_spawn_depth": 0})
    assert refused(quiet, f"/v1/swarm/personas/{none}/spawn", WHO) == (400, "Spawn depth 1 exceeds limit 0")


@pytest.mark.fact("2.4")
def test_reaping_frees_a_place_but_never_an_id(quiet: Swarm, root: str) -> None:
    spawn = f"/v1/swarm/personas/{root}/spawn"
    children = [quiet.post(spawn, WHO)["identity"]["id"] for _ in range(4)]
    quiet.post(f"/v1/swarm/personas/{children[0]}/reap")
    assert quiet.http("POST", spawn, {**WHO, "persona_id": children[0]}).status == 409
    quiet.post(spawn, WHO)
    assert quiet.http("POST", spawn, WHO).status == 400


@pytest.mark.fact("2.4")
def test_of_many_spawns_racing_for_the_last_places_exactly_as_many_win(quiet: Swarm, root: str) -> None:
    def spawn(_: int) -> int:
        return quiet.http("POST", f"/v1/swarm/personas/{root}/spawn", WHO).status

    with ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(spawn, range(32))) == [200] * 4 + [400] * 28


@pytest.mark.fact("2.5")
def test_a_childs_depth_limit_is_clamped_to_its_parents(quiet: Swarm, root: str) -> None:
    child = quiet.post(f"/v1/swarm/personas/{root}/spawn", {**WHO, "policy": {"max_spawn_depth": 99}})
    assert child["policy"]["max_spawn_depth"] == 4


@pytest.mark.fact("2.6")
@pytest.mark.parametrize("odd", ["a/b", "a b", "ü.*>", "=5F", "_", "...", "%2F", "q?x=1#y", "日本" * 64])
def test_odd_ids_work_everywhere_and_are_shown_as_they_are(quiet: Swarm, odd: str) -> None:
    from urllib.parse import quote

    state = create(quiet, odd, swarm_id=odd)
    assert state["identity"]["id"] == state["identity"]["swarm_id"] == odd
    path = f"/v1/swarm/personas/{quote(odd, safe='')}"
    assert quiet.get(path)["identity"]["id"] == odd
    child = quiet.post(f"{path}/spawn", WHO)["identity"]
    assert (child["parent_id"], child["swarm_id"]) == (odd, odd)
    assert quiet.post(f"{path}/reap")["reaped_ids"] == [odd]
    eventually_sync(
        lambda: (
            [e["event_type"] for e in quiet.events() if e["persona_id"] == odd]
            == ["persona_spawned", "persona_reaped"]
        )
    )


@pytest.mark.fact("2.6")
@pytest.mark.parametrize(
    "wrong",
    [
        {"persona_id": ""}, {"persona_id": "x" * 129}, {"persona_id": "."}, {"persona_id": ".."},
        {"persona_id": "a\nb"}, {"persona_id": "a\x7f"}, {"swarm_id": "\x00"}, {"name": ""},
        {"name": "x" * 201}, {"role": ""}, {"role": "x" * 201}, {"charter": ""}, {"charter": "x" * 8001},
        {"policy": {"max_spawn_depth": -1}}, {"policy": {"max_spawn_depth": 2**32}},
        {"policy": {"idle_ttl_secs": 2**64}}, {"policy": {"share_memory": "yes"}},
    ],
)  # fmt: skip
def test_values_out_of_bounds_are_refused_by_field(quiet: Swarm, wrong: dict[str, Any]) -> None:
    status, detail = refused(quiet, "/v1/swarm/personas", {**WHO, **wrong})
    field = next(iter(wrong))
    nested = wrong[field]
    assert status == 400
    assert (next(iter(nested)) if isinstance(nested, dict) else field) in detail


@pytest.mark.fact("2.6")
def test_values_at_the_bounds_are_taken(quiet: Swarm) -> None:
    state = create(
        quiet, "x" * 128, name="n" * 200, role="r" * 200, charter="c" * 8000,
        policy={"max_spawn_depth": 2**32 - 1, "idle_ttl_secs": 2**64 - 1},
    )  # fmt: skip
    assert state["policy"]["idle_ttl_secs"] == 2**64 - 1


@pytest.mark.fact("2.7")
def test_creating_emits_persona_spawned_at_the_time_of_creation(quiet: Swarm) -> None:
    state = create(quiet, str(uuid4()), swarm_id="s")
    identity = state["identity"]

    def spawned() -> Any:
        return next((e for e in quiet.events() if e["persona_id"] == identity["id"]), None)

    event = eventually_sync(spawned)
    assert event["event_type"] == "persona_spawned"
    assert event["payload"] == {"name": "n", "role": "r", "depth": 0}
    assert event["timestamp"] == identity["created_at"]
    assert event["swarm_id"] == "s"
