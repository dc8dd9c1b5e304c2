"""What each user of the broker may do, and what it is denied: asked of a real broker, subject by subject."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import nats
import pytest
from structlog.testing import capture_logs

from libs.bus.connection import Bus, connect
from libs.bus.endpoints import Gate, Request, listening
from libs.bus.errors import ApiRefused, PublishRefused
from libs.bus.loop import MessageLoop
from libs.bus.read import stream_state
from libs.bus.telemetry import NoTelemetry
from libs.contracts.journal import Position
from libs.contracts.permissions import ADMIN, READER, SENDER, SERVICES, inbox, permissions
from libs.contracts.refusals import Unavailable
from libs.journal.position import watch_position
from libs.runtime.metrics import ProcessMetrics
from tests.bus.support import Noted
from tests.security.support import GuardedBroker
from tests.support.eventually import eventually

LAST = "nobody.may"
JOURNAL = ["j.3", "j.registry"]
EVENTS_IN = "perpetua.in.events.s.p.thought_generated"
EVENT = "perpetua.events.s.p.thought_generated"
RESULT, GRANT = "perpetua.result.3", "perpetua.grant.3"
STREAM_ADMIN = [
    "$JS.API.STREAM.DELETE.JOURNAL", "$JS.API.STREAM.CREATE.X", "$JS.API.STREAM.UPDATE.EVENTS",
    "$JS.API.STREAM.PURGE.EVENTS", "$JS.API.CONSUMER.DELETE.THINK.thinkers", "$JS.API.STREAM.LIST",
    "$JS.API.CONSUMER.DURABLE.CREATE.THINK.thinkers", "$JS.API.ACCOUNT.PURGE.A",
]  # fmt: skip

MAY_PUBLISH = {
    "registry": [
        *JOURNAL, "$KV.personas.p", "$KV.control.loop", "$KV.leases.registry.r1", "_INBOX_gateway.x",
        "$JS.API.STREAM.INFO.EVENTS",
    ],
    "scheduler": [
        *JOURNAL, "think.3", "$KV.checkpoints.3.head", "$KV.leases.scheduler.s1", "_INBOX_thinker.x",
        "_INBOX_compressor.x",
        "_INBOX_gateway.x", "perpetua.dead.THINK", "perpetua.halted", "perpetua.accounts.3",
        "perpetua.registry.reap", "perpetua.dead.INBOX", "$JS.API.STREAM.MSG.DELETE.INBOX",
    ],
    "thinker": [
        RESULT, GRANT, "perpetua.captures.p.1", "$KV.leases.thinker.t1", "$JS.ACK.THINK.thinkers.1.1.1.1.1",
        "_INBOX_compressor.x",
    ],
    "compressor": [
        EVENTS_IN, "perpetua.in.snapshots.s.p", "$KV.proposals.x", "perpetua.position", "perpetua.summaries",
        "perpetua.roll_up.3",
    ],
    "gateway": [
        "perpetua.registry.create", "perpetua.scheduler.status", "perpetua.counters.3", "inbox.3.p",
        "_INBOX.x",
    ],
    ADMIN: ["$JS.API.STREAM.INFO.JOURNAL", "$SRV.PING", "$JS.SNAPSHOT.ACK.EVENTS.x"],
    READER: ["$JS.API.DIRECT.GET.EVENTS", "$JS.API.STREAM.INFO.EVENTS"],
    SENDER: ["perpetua.inbox.p", "perpetua.inbox_swarm.s"],
}  # fmt: skip
MAY_NOT_PUBLISH = {
    "registry": [
        EVENT, EVENTS_IN, "think.3", RESULT, "$KV.checkpoints.3.head", "$KV.leases.scheduler.s1",
        *STREAM_ADMIN,
    ],
    "scheduler": [
        EVENT, EVENTS_IN, "$KV.personas.p", "$KV.control.loop", RESULT, "perpetua.registry.create",
        "inbox.3.p", *STREAM_ADMIN,
    ],
    "thinker": [
        EVENT, EVENTS_IN, *JOURNAL, "think.3", "$KV.personas.p", "$KV.leases.scheduler.s1",
        "perpetua.registry.reap",
        "perpetua.roll_up.3", "perpetua.summaries",
        "perpetua.counters.3", "_INBOX_gateway.x", "$JS.API.CONSUMER.CREATE.JOURNAL.x",
        "$JS.API.STREAM.PURGE.JOURNAL",
        "$JS.API.STREAM.MSG.GET.JOURNAL", *STREAM_ADMIN,
    ],
    "compressor": [
        EVENT, *JOURNAL, "think.3", "$KV.personas.p", "$JS.API.STREAM.PURGE.JOURNAL", RESULT, *STREAM_ADMIN,
    ],
    "gateway": [
        EVENT, EVENTS_IN, *JOURNAL, "think.3", "$KV.personas.p", RESULT, GRANT, "perpetua.position",
        "perpetua.halted", "perpetua.waiting", "perpetua.roll_up.3", "perpetua.summaries",
        "$JS.API.CONSUMER.CREATE.JOURNAL.x", "$JS.API.STREAM.MSG.GET.KV_personas", *STREAM_ADMIN,
    ],
    ADMIN: [EVENT, EVENTS_IN, *JOURNAL, RESULT, "$KV.personas.p"],
    READER: [
        EVENT, EVENTS_IN, *JOURNAL, "perpetua.registry.create", "$JS.API.CONSUMER.CREATE.EVENTS.x",
        "perpetua.inbox.p", *STREAM_ADMIN,
    ],
    SENDER: [
        EVENT, EVENTS_IN, *JOURNAL, "inbox.3.p", "perpetua.registry.create", "$JS.API.STREAM.INFO.EVENTS",
        *STREAM_ADMIN,
    ],
}  # fmt: skip
MAY_SUBSCRIBE = {
    "registry": ["perpetua.registry.create", "$SRV.PING", "perpetua.position"],
    "scheduler": [
        RESULT,
        GRANT,
        "perpetua.counters.3",
        "perpetua.scheduler.status",
        "perpetua.waiting",
        "perpetua.roll_up.3",
    ],
    "thinker": ["perpetua.summaries"],
    "compressor": [],
    "gateway": ["perpetua.inbox.*", "perpetua.inbox_swarm.*"],
    ADMIN: ["perpetua.events.>", "perpetua.dead.>"],
    READER: ["perpetua.events.>", "perpetua.snapshots.>", "_INBOX.x"],
    SENDER: ["_INBOX.x"],
}
MAY_NOT_SUBSCRIBE = {
    **{
        service: [
            ">", "j.*", "think.*", "$KV.>", "$JS.API.>", "_INBOX.>",
            *(f"{inbox(other)}.>" for other in SERVICES if other != service),
        ]
        for service in SERVICES
    },
    ADMIN: [">", "j.*", "_INBOX_gateway.>"],
    READER: [">", "j.*", "perpetua.captures.>", "perpetua.registry.*", "_INBOX_gateway.>", "$KV.>"],
    SENDER: [">", "perpetua.events.>", "perpetua.inbox.*", "inbox.*.*", "_INBOX_gateway.>"],
}  # fmt: skip


def test_every_user_is_in_the_tables() -> None:
    users = permissions().keys()
    for table in (MAY_PUBLISH, MAY_NOT_PUBLISH, MAY_SUBSCRIBE, MAY_NOT_SUBSCRIBE):
        assert table.keys() == users


async def denied(bus: Bus, noted: Noted, subjects: list[str], *, publish: bool) -> set[str]:
    """What of some subjects the broker denies: it answers in order, and denies everybody the last."""
    noted.faults.clear()
    for subject in [*subjects, LAST]:
        if publish:
            await bus.client.publish(subject, b"{}")
        else:
            await bus.client.subscribe(subject)
    await eventually(lambda: LAST in {fault.subject for fault in noted.faults}, what="the last denial")
    assert {fault.kind for fault in noted.faults} == {"denied"}
    return {fault.subject for fault in noted.faults} - {LAST}


@pytest.mark.parametrize("user", permissions())
async def test_a_user_may_do_this_and_not_that(guarded: GuardedBroker, user: str) -> None:
    async with guarded.connected(user) as (bus, noted):
        assert await denied(bus, noted, MAY_PUBLISH[user], publish=True) == set()
        assert await denied(bus, noted, MAY_SUBSCRIBE[user], publish=False) == set()
        never = {subject.lower() for subject in MAY_NOT_PUBLISH[user]}
        assert await denied(bus, noted, MAY_NOT_PUBLISH[user], publish=True) == never
        never = {subject.lower() for subject in MAY_NOT_SUBSCRIBE[user]}
        assert await denied(bus, noted, MAY_NOT_SUBSCRIBE[user], publish=False) == never


async def test_a_user_reads_its_own_inboxes_only(guarded: GuardedBroker) -> None:
    for user in permissions():
        async with guarded.connected(user) as (bus, noted):
            assert bus.client.new_inbox().startswith(f"{inbox(user)}.")
            assert noted.faults == []
    ours = permissions().keys() - {READER, SENDER}
    assert len({inbox(user) for user in ours}) == len(ours)


async def test_who_shows_no_key_reads_public_events_and_nothing_else(guarded: GuardedBroker) -> None:
    faults: list[str] = []

    async def remember(error: Exception) -> None:
        faults.append(str(error))

    anybody = await nats.connect(guarded.url, error_cb=remember)
    try:
        events = await anybody.subscribe("perpetua.events.>")
        await anybody.flush()
        async with guarded.connected("compressor") as (bus, _):
            await bus.publish(EVENTS_IN, b'{"id": "x"}')
        assert (await events.next_msg(timeout=30)).subject == EVENT
        assert faults == []
        for subject in (">", "j.*", "perpetua.snapshots.>", "_INBOX.>", "_INBOX_gateway.>"):
            await anybody.subscribe(subject)
        for subject in (EVENT, EVENTS_IN, *JOURNAL, "$JS.API.INFO", "perpetua.registry.create"):
            await anybody.publish(subject, b"{}")
        await anybody.flush()
        await eventually(lambda: len(faults) == 5 + 6, what="a denial of each")
    finally:
        await anybody.close()


async def test_a_key_that_the_broker_does_not_know_is_refused_and_said(guarded: GuardedBroker) -> None:
    import nkeys

    stranger = guarded.keys / "stranger.nk"
    stranger.write_bytes(nkeys.encode_seed(bytes(range(32)), prefix=nkeys.PREFIX_BYTE_USER))
    noted = Noted()
    settings = guarded.settings("gateway")

    async def come_in() -> None:
        async with connect(
            type(settings)(user="gateway", url=guarded.url, nkey_file=str(stranger)), "test", noted
        ):
            raise AssertionError("let in")

    with capture_logs() as logs:
        coming = asyncio.create_task(come_in())
        await eventually(lambda: "refused" in {fault.kind for fault in noted.faults}, what="a refusal")
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
    said = next(line for line in logs if line["event"] == "broker_refuses_us")
    assert "PERPETUA_NATS_NKEY_FILE" in said["cure"]


async def test_a_denied_publish_fails_at_once_with_a_log_line_and_a_count(guarded: GuardedBroker) -> None:
    """Not five seconds later as a publish whose outcome nobody knows."""
    metrics = ProcessMetrics("gateway", "g", "0")
    with capture_logs() as logs:
        async with connect(guarded.settings("gateway"), "test", metrics) as bus:
            began = time.monotonic()
            with pytest.raises(PublishRefused, match=r"does not allow it.*users.conf"):
                await bus.publish("j.3", b"{}")
            with pytest.raises(ApiRefused, match="does not allow it"):
                await stream_state(bus, "JOURNAL")
            with pytest.raises(Unavailable, match="does not allow it"):
                await bus.ask("perpetua.grant.3", Position(sequence=1), Position, timeout=30)
            assert time.monotonic() - began < 4
    counted = metrics.registry.get_sample_value("perpetua_bus_faults_total", {"kind": "denied"})
    assert counted == 3
    denied = [line["subject"] for line in logs if line.get("kind") == "denied"]
    assert denied == ["j.3", "$js.api.stream.info.journal", "perpetua.grant.3"]


async def push(bus: Bus, stream: str, name: str, to: str) -> None:
    """Have the broker deliver what a stream holds to a subject."""
    config = {"name": name, "deliver_subject": to, "deliver_policy": "all", "ack_policy": "none"}
    await bus.api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})


async def test_what_the_broker_delivers_for_somebody_who_may_not_publish_is_left(
    guarded: GuardedBroker,
) -> None:
    """A push consumer goes wherever its maker says; a gateway's own key in `leases` holds what it likes."""
    forged = b'{"sequence": 999999}'
    async with guarded.connected("gateway") as (gateway, _), guarded.connected("scheduler") as (bus, noted):
        async with watch_position(bus) as position, watch_results(bus) as results:
            await bus.client.flush()
            await gateway.publish("$KV.leases.gateway.g1", forged)
            with capture_logs() as logs:
                await push(gateway, "KV_leases", "one", "perpetua.position")
                await push(gateway, "KV_leases", "two", RESULT)
                await eventually(
                    lambda: (
                        {line["to"] for line in logs if line["event"] == "misdelivered"}
                        == {"perpetua.position", RESULT}
                    ),
                    what="both left",
                )
            assert position.sequence == 0
            assert results == []
            async with (
                guarded.connected("compressor") as (compressor, _),
                guarded.connected("thinker") as (t, _),
            ):
                await compressor.client.publish("perpetua.position", b'{"sequence": 5}')
                await t.client.publish(RESULT, b'{"sequence": 7}')
                await eventually(lambda: (position.sequence, results) == (5, [7]), what="those of who may")
        assert noted.faults == []


async def test_the_journal_gets_nothing_that_the_broker_delivers(guarded: GuardedBroker) -> None:
    """A delivery needs somebody who listens, and nobody may."""
    async with guarded.connected("gateway") as (gateway, _), guarded.connected(ADMIN) as (admin, _):
        await gateway.publish("$KV.leases.gateway.g1", b"forged")
        await push(gateway, "KV_leases", "journal", "j.3")
        inbox_of_ours = gateway.client.new_inbox()
        seen = await gateway.client.subscribe(inbox_of_ours)
        await push(gateway, "KV_leases", "seen", inbox_of_ours)
        assert (await seen.next_msg(timeout=30)).data == b"forged"
        info = "CONSUMER.INFO.KV_leases.journal"
        assert (await admin.api(info))["delivered"]["stream_seq"] == 0
        assert (await stream_state(admin, "JOURNAL"))["messages"] == 0


@asynccontextmanager
async def watch_results(bus: Bus) -> AsyncIterator[list[int]]:
    """What comes as results of shard 3, handled as a scheduler does."""
    came: list[int] = []

    async def take(message: Position, _: Request) -> None:
        came.append(message.sequence)

    loop: MessageLoop[Position, Request] = MessageLoop(
        "results", msgspec.json.Decoder(Position).decode, take, NoTelemetry()
    )
    async with Gate() as gate, listening(bus, RESULT, loop, gate):
        yield came
