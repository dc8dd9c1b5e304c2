"""What the broker holds may be of anybody: the command line shows it, as text, and does not fail over it."""

from __future__ import annotations

import json

import msgspec
from msgspec.structs import replace

from libs.bus.connection import Bus
from libs.contracts import subjects
from libs.contracts.presence import BootFailure, BootSummary, PresenceRecord, StageTimes
from tests.bus.test_presence import record
from tests.cli.test_backup import perpetua
from tests.support.broker import Broker
from tests.unit.test_terminal_text import is_safe

ESCAPE = "\x1b[2J\x9b31m\u202e"


async def say(bus: Bus, one: PresenceRecord) -> None:
    await bus.publish(subjects.presence_key("thinker", one.instance), msgspec.json.encode(one))


async def test_ps_and_stats_show_strange_processes_as_text(bus: Bus, broker: Broker) -> None:
    failure = BootFailure(slot_index=3, role=f"shard{ESCAPE}", persona_id=None, reason=f"why{ESCAPE}")
    summary = BootSummary(
        service="thinker", hosted=1, failures=[failure], thinks_with=f"m{ESCAPE}", troubles=[f"t{ESCAPE}"]
    )
    never = StageTimes(count=0, least_s=0, sum_s=0, most_s=0)
    stranger = replace(record(f"one{ESCAPE}", f"oracle{ESCAPE}"), summary=summary, outcomes={f"o{ESCAPE}": 7})
    await say(bus, replace(stranger, stages={"total": never}))
    await say(bus, record("two", "registry"))
    for command in ("ps", "stats"):
        done = perpetua(command, "--nats-url", broker.url)
        assert done.returncode == 0, done.stderr
        assert all(is_safe(line) for line in done.stdout.splitlines())
        assert "·[2J" in done.stdout
    shown = perpetua("ps", "--nats-url", broker.url).stdout
    assert "goes on without shard" in shown
    rows = json.loads(perpetua("ps", "--json", "--nats-url", broker.url).stdout)
    assert [row["service"] for row in rows] == ["registry", f"oracle{ESCAPE}"]
