"""A supervisor says for a process that it is gone."""

from __future__ import annotations

import socket
from datetime import timedelta

import msgspec
import pytest

from libs.bus.connection import Bus
from libs.bus.presence import take_leave
from libs.contracts import subjects
from tests.bus.test_presence import AT_ONCE_S, SINCE, living, record, watching
from tests.support.eventually import eventually


@pytest.mark.fact("H9")
async def test_a_dead_process_is_missed_at_once_where_its_supervisor_says_so(bus: Bus) -> None:
    """Unless one of its name has begun since, or the key is of another host's process."""
    here = socket.gethostname()
    dead, back = record("dead", host=here), record("back", host=here, since=SINCE + timedelta(seconds=2))
    async with watching(bus, "thinker") as peers:
        for one in (dead, back, record("elsewhere", host="elsewhere")):
            await bus.publish(subjects.presence_key("thinker", one.instance), msgspec.json.encode(one))
        await eventually(lambda: living(peers) == ["back", "dead", "elsewhere"])
        for name in ("back", "elsewhere", "nobody", "dead"):
            await take_leave(bus, "thinker", name, SINCE + timedelta(seconds=1))
        await eventually(lambda: living(peers) == ["back", "elsewhere"], within=AT_ONCE_S)
