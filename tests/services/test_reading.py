"""What the gateway shows of inboxes, lives and spending, as the owners of shards tell it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from libs.bus.connection import Bus
from libs.contracts.lives import SpendReply, Spent, SpentByPersona, SpentInHour
from libs.contracts.spending import SpendBy
from libs.contracts.tokens import shard_of
from libs.contracts.work import Counters
from services.gateway import peers
from tests.services.standin import ALL_SHARDS, StandIn, gateway, held_item, life
from tests.support.http import Answer, fetch
from tests.support.still import without_pause
from tests.unit.make import NOW


@pytest_asyncio.fixture
async def served(bus: Bus) -> AsyncIterator[StandIn]:
    async with gateway(bus) as made:
        await made.asked.create("ann", "b/ob", swarm_id="s")
        yield made


async def get(served: StandIn, path: str) -> Answer:
    return await asyncio.to_thread(fetch, served.url + path)


async def found(served: StandIn, path: str) -> Any:
    answer = await get(served, path)
    assert answer.status == 200, answer.text
    return answer.json


@pytest.mark.fact("A6")
async def test_a_persona_is_shown_with_its_inner_state(served: StandIn) -> None:
    served.owners.counters["ann"] = Counters(7, NOW, life(waiting_for=["b/ob"]))
    state = await found(served, "/v1/swarm/personas/ann")
    assert state["life"] == msgspec.to_builtins(life(waiting_for=["b/ob"]))
    assert (state["thought_count"], state["life"]["mood"]) == (7, "active")
    page = await found(served, "/v1/swarm/personas")
    assert [one["life"] and one["life"]["energy"] for one in page["personas"]] == [0.5, None]


@pytest.mark.fact("A2")
async def test_an_inbox_is_shown_best_first_with_how_much_it_holds(served: StandIn) -> None:
    served.owners.items["b/ob"] = [held_item(f"i-{n}", effective_priority=1.0 - n / 10) for n in range(5)]
    shown = await found(served, "/v1/swarm/personas/b%2Fob/inbox?limit=2")
    assert (shown["held"], [one["id"] for one in shown["items"]]) == (5, ["i-0", "i-1"])
    assert shown["items"][0] == msgspec.to_builtins(held_item("i-0", effective_priority=1.0))
    assert await found(served, "/v1/swarm/personas/ann/inbox") == {"items": [], "held": 0}
    assert (await get(served, "/v1/swarm/personas/nobody/inbox")).status == 404
    for wrong in ("0", "1001", "x"):
        assert (await get(served, f"/v1/swarm/personas/ann/inbox?limit={wrong}")).status == 400


async def test_what_was_spent_is_asked_of_all_shards(served: StandIn) -> None:
    served.owners.spent = {
        shard: SpendReply(
            personas=[SpentByPersona(f"p{shard}", Spent(1, shard, 2))],
            hours=[SpentInHour(490_923, "s", "critic", Spent(1, shard, 2))],
        )
        for shard in ALL_SHARDS
    }
    page = await found(served, "/v1/swarm/spend")
    assert (page["by"], page["total"]) == ("persona", {"thoughts": 64, "tokens": 2016, "cpu_ms": 128})
    assert [row["key"] for row in page["rows"][:2]] == ["p63", "p62"]
    by_role = await found(served, "/v1/swarm/spend?by=role&swarm_id=s&limit=1")
    assert by_role["rows"] == [{"key": "critic", "thoughts": 64, "tokens": 2016, "cpu_ms": 128}]
    unknown = await get(served, "/v1/swarm/spend?by=hour&swarm_id=t")
    assert (unknown.status, unknown.json["detail"]) == (404, "Swarm not found: t")
    assert (await get(served, "/v1/swarm/spend?by=mood")).status == 400


async def test_by_persona_a_swarm_is_who_is_in_it_and_was(served: StandIn) -> None:
    await served.asked.create("cat", swarm_id="other")
    for name in ("ann", "b/ob", "cat"):
        served.owners.spent[shard_of(name)] = SpendReply(
            personas=[SpentByPersona(name, Spent(1, 5, 5))], hours=[]
        )
    await served.asked.reap("ann")
    page = await found(served, "/v1/swarm/spend?swarm_id=s")
    assert sorted(row["key"] for row in page["rows"]) == ["ann", "b/ob"]


async def test_a_swarm_is_known_by_whoever_is_or_was_in_it_and_by_what_was_spent(served: StandIn) -> None:
    for by in SpendBy:
        assert (await get(served, f"/v1/swarm/spend?by={by}&swarm_id=t")).status == 404
        assert (await found(served, f"/v1/swarm/spend?by={by}&swarm_id=s"))["rows"] == []
    served.owners.spent[3] = SpendReply(
        personas=[], hours=[SpentInHour(490_923, "t", "critic", Spent(1, 2, 3))]
    )
    for by in SpendBy:
        page = await found(served, f"/v1/swarm/spend?by={by}&swarm_id=t")
        assert page["total"]["tokens"] == (0 if by is SpendBy.PERSONA else 2)


async def test_a_shard_that_nobody_answers_for_is_no_smaller_sum(
    served: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_WITHIN_S", 2.0)
    served.owners.silent = {17}
    answer = await without_pause(served.bus, 1.0, lambda: get(served, "/v1/swarm/spend"))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert "perpetua.spend.17" in answer.json["detail"]
