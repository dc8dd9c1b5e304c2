"""A persona that has had one slow thought."""

from __future__ import annotations

import pytest

from libs.contracts.accounts import Credits
from services.scheduler.accounts import Accounts
from services.scheduler.estimate import expected
from services.scheduler.ledger import PersonaLedger

LIMITS = Credits(20_000, 10_000)
"""The default policy's."""


@pytest.mark.xfail(reason="its next thought is expected to cost more than any minute has", strict=True)
def test_one_slow_thought_does_not_end_a_persona() -> None:
    """Only a thought changes what the next is expected to cost, and it is never admitted to one again."""
    entry = PersonaLedger()
    entry.lives(0.0).cost = Credits(800, 8_400)  # within the 10 000 ms of a minute, once

    cost = expected(entry, "Watch.", 256, LIMITS)

    assert Accounts().reserve("p", LIMITS, "p", 2, window=1, cost=cost) is None
