"""Items that a thought has had in its prompt while no model could be asked [A5]."""

from __future__ import annotations

import pytest
from msgspec import structs

from libs.contracts.inbox import Outcome
from libs.contracts.journal import Effort, ItemSettled, ShardRecord
from services.scheduler.inbox import Held, Inbox
from services.scheduler.ledger import Ledger
from services.scheduler.mail import Standing
from services.scheduler.taking import Takes
from tests.unit.make import inbox_item, thought


@pytest.mark.fact("A5")
def test_an_item_that_is_returned_is_a_reason_to_think_again() -> None:
    """Else it lies there until something else wakes its persona."""
    now = [100.0]
    ledger = Ledger(0, lambda: now[0])
    takes = Takes(adaptive=True, clock=lambda: now[0], wall=lambda: now[0])
    entry = ledger.persona("p")
    entry.inbox = Inbox()
    entry.inbox.add(Held(7, Standing(50), 100.0, inbox_item()), 100.0)
    assert len(takes.of(entry)) == 1

    effort = Effort("observer", 0, 0, False, True, items=[ItemSettled(7, Outcome.RETURNED)])
    ledger.apply(1, ShardRecord(number=1, thoughts=[structs.replace(thought(), effort=effort)]))

    assert not takes.has_any(entry), "not at once: the endpoint is away"
    now[0] += 2.0
    assert takes.has_any(entry)
    assert takes.of(entry)[0].attempts == 0
