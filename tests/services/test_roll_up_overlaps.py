"""Each snapshot goes into one roll-up, whichever compressor makes it [A18]."""

from __future__ import annotations

import asyncio

import pytest

from libs.bus.connection import Bus
from libs.contracts.rollups import RollUpAnswer
from services.compressor import rolling as rules
from tests.services.rolling import (
    INTERVAL_S,
    Journal,
    Owner,
    asking,
    compressing,
    owning,
    rolled,
    summing_up,
)
from tests.services.test_roll_up_owners import answering
from tests.support.endpoint import endpoint
from tests.support.eventually import eventually


@pytest.mark.fact("A18")
async def test_a_compressor_that_takes_over_folds_in_nothing_that_another_has(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads what is public again, as far back as the last proposal. No thinker is there."""
    monkeypatch.setattr(rules, "SUMMARY_WITHIN_S", 1.5)
    journal = Journal(bus)

    async def roll_ups(count: int) -> bool:
        return len(await rolled(bus)) >= count

    async with answering(bus, "one"):
        async with compressing(bus):
            await journal.snapshots("a", "b")
            await eventually(lambda: roll_ups(1), 20, "a roll-up")
        async with compressing(bus):
            await journal.snapshots("c")
            await asyncio.sleep(3 * INTERVAL_S)
            await journal.snapshots("d")
            await eventually(lambda: roll_ups(2), 20, "another roll-up")
    assert [one.persona_scope for one in await rolled(bus)] == [["a", "b"], ["c", "d"]]


@pytest.mark.fact("A16", "A18")
async def test_no_model_is_asked_about_what_another_roll_up_has_and_the_rest_comes_again(bus: Bus) -> None:
    journal = Journal(bus)
    owner = Owner(journal)
    owner.answer = RollUpAnswer(refused="folded in", behind=(1, 1))
    with endpoint(lambda _: "Calm.") as server:
        async with (
            asking(server) as backend,
            summing_up(bus, backend),
            owning(bus, owner, "s"),
            compressing(bus) as compressor,
        ):
            await journal.snapshots("a", "b")
            await eventually(lambda: owner.asked, what="a question")
            owner.answer = RollUpAnswer()
            await journal.snapshots("c")
            await eventually(lambda: owner.requests, what="a roll-up")
        assert len(server.requests) == 1
    assert [one.first for one in owner.asked] == [(1, 1), (2, 1)]
    (request,) = owner.requests
    assert (request.persona_scope, request.first, request.last) == (["b", "c"], (2, 1), (3, 1))
    assert compressor.counted("perpetua_roll_ups_lost_total") == 0
