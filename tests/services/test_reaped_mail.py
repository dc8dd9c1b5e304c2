"""What comes for a persona that is reaped meanwhile is dropped, and that is said [A2]."""

from __future__ import annotations

import pytest

from libs.bus.connection import Bus
from libs.contracts.personas import ReapPersonaRequest
from services.scheduler.notes import Note
from tests.services.test_mailbox import ANN, events, item, open_box, post
from tests.support.eventually import eventually
from tests.unit.make import NOW, Tree


@pytest.mark.fact("A2")
async def test_what_comes_as_its_persona_is_reaped_is_dropped_and_said(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its being announced and its coming into the inbox: that was emptied before."""
    tree = Tree()
    tree.create(ANN)
    async with open_box(bus, roster=tree.roster) as box:
        note = box.owner.note

        async def reaped_meanwhile(said: Note) -> None:
            await note(said)
            tree.carry_out(tree.rules.reap(tree.view, ANN, ReapPersonaRequest(), NOW))

        monkeypatch.setattr(box.owner, "note", reaped_meanwhile)
        await post(bus, item(1))
        await eventually(lambda: dropped_as(bus, "persona_reaped"))
        assert (box.ids(), box.woken) == ([], [])
        await eventually(lambda: box.owner.ledger.settled == {1}, what="the stream may forget it")


async def dropped_as(bus: Bus, reason: str) -> bool:
    return [one["reason"] for one in await events(bus, "inbox_dropped")] == [reason]
