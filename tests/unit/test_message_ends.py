"""What a storm takes for the end of a message [A2]."""

from __future__ import annotations

import pytest

from tests.chaos.collector import Event
from tests.chaos.lives import Ends
from tests.unit.make import NOW


@pytest.mark.parametrize(
    ("reason", "ends"), [("full", True), ("persona_reaped", True), ("unknown_persona", False)]
)
def test_a_drop_ends_a_message_unless_its_persona_is_said_to_be_unknown(reason: str, ends: bool) -> None:
    seen, sent = Ends(), {"item-1": "ann"}
    seen.note(Event("e", NOW, "inbox_dropped", "ann", "s", {"id": "item-1", "reason": reason}))
    assert seen.open(sent) == ({} if ends else sent)
    assert len(seen.findings(sent)) == (0 if ends else 1)
