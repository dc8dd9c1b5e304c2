"""What is sent to a persona may reach its scheduler ahead of the persona's own record [A2]."""

from __future__ import annotations

import pytest

from libs.bus.connection import Bus
from libs.contracts import subjects
from libs.journal.tail import Tail
from libs.roster.state import Roster
from services.scheduler.mailbox import Sync
from tests.services.support import registry
from tests.services.test_mailbox import ANN, events, item, open_box, post
from tests.support.eventually import eventually
from tests.unit.make import create


@pytest.mark.fact("A2")
async def test_a_message_that_comes_ahead_of_its_persona_s_record_is_held_and_told_once(bus: Bus) -> None:
    """The roster and the inboxes are followed side by side: after an outage either may be behind."""

    def behind() -> tuple[Roster, Sync]:
        roster = Roster()
        return roster, Tail(bus, subjects.JOURNAL_REGISTRY, lambda at, data: void(roster.fold(at, data))).sync

    async with registry(bus) as made:
        roster, sync = behind()
        async with open_box(bus, "one", roster, sync) as first:
            await made.create(create(ANN))
            assert ANN not in roster.personas
            await post(bus, item(1))
            await eventually(lambda: first.ids() == ["i1"])
        roster, sync = behind()
        async with open_box(bus, "two", roster, sync) as second:
            assert second.ids() == ["i1"]
            await post(bus, item(2))
            await eventually(lambda: len(second.ids()) == 2)
        assert [e["id"] for e in await events(bus, "inbox_received")] == ["i1", "i2"]
        assert await events(bus, "inbox_dropped") == []


def void(_: object) -> None:
    pass
