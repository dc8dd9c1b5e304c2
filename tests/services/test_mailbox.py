"""What is sent to personas comes into their inboxes once, and leaves them once, whoever is killed [A1–A5]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from time import time
from typing import Any

import msgspec
import pytest
from msgspec import structs
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.bus.telemetry import NoTelemetry
from libs.concurrency.tasks import Background
from libs.contracts import streams, subjects
from libs.contracts.inbox import InboxItem, Outcome
from libs.contracts.journal import Effort, ItemSettled, JournalEvent
from libs.contracts.limits import INBOX_ITEMS
from libs.contracts.tokens import shard_of
from libs.contracts.work import Settled
from libs.roster.state import Roster
from services.scheduler import inbox
from services.scheduler.inboxes import Inboxes
from services.scheduler.mail import IDS_KEPT
from services.scheduler.mailbox import Arrival, Mailbox, Sync
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.offers import Offers
from services.scheduler.owner import ShardOwner
from services.scheduler.posts import Posts
from services.scheduler.taking import Takes
from tests.bus.support import held
from tests.services.support import in_step, owner, shard_records
from tests.support.eventually import eventually
from tests.unit.make import Tree, thought

ANN = "ann"
SHARD = shard_of(ANN)


class Box:
    """One shard's inboxes at work, as a process that owns the shard keeps them."""

    def __init__(self, bus: Bus, boot: str, roster: Roster, sync: Sync) -> None:
        self.bus = bus
        self.roster = roster
        self.owner: ShardOwner = owner(bus, SHARD, boot)
        self.woken: list[tuple[str, bool]] = []
        self.posts = Posts(bus, NoTelemetry(), lambda before, post: self.offers.changed(before, post))
        self.offers = Offers(self.posts, lambda name, urgent: self.woken.append((name, urgent)), boot)
        self.inboxes = Inboxes(
            bus,
            roster,
            sync,
            {SHARD: self.owner},
            lambda name, urgent: self.woken.append((name, urgent)),
            self.offers,
            SchedulerMetrics(CollectorRegistry()),
            NoTelemetry(),
        )

    def ids(self, persona_id: str = ANN) -> list[str]:
        """Ids of what an inbox holds, best first."""
        inbox = self.owner.ledger.persona(persona_id).inbox
        now = asyncio.get_running_loop().time()
        return [item.id for item in inbox.shown(now)] if inbox is not None else []

    async def think(self, *outcomes: tuple[int, Outcome]) -> Settled:
        """Store Ann's next thought, which took these items up."""
        count = self.owner.ledger.persona(ANN).count + 1
        effort = Effort("observer", 120, 50, True, False, items=[ItemSettled(*one) for one in outcomes])
        return await self.owner.submit([structs.replace(thought(ANN, count), effort=effort)])


@asynccontextmanager
async def open_box(
    bus: Bus, boot: str = "one", roster: Roster | None = None, sync: Sync = in_step
) -> AsyncIterator[Box]:
    """A process that owns the shard; it dies as by kill when the context ends."""
    box = Box(bus, boot, roster or people(), sync)
    await box.owner.take_over()
    async with Background() as tasks:
        tasks.create_task(box.owner.run())
        tasks.create_task(box.inboxes.run())
        async with box.inboxes.opened(box.owner):
            yield box


def people(*names: str) -> Roster:
    """Ann, and others."""
    tree = Tree()
    for name in (ANN, *names):
        tree.create(name, name=name.title(), charter="Watch the harbour.")
    return tree.roster


def item(number: int, persona_id: str = ANN, **more: Any) -> InboxItem:
    words: dict[str, Any] = {"content": f"Number {number}.", "timestamp": datetime.now(UTC)} | more
    return InboxItem(id=f"i{number}", persona_id=persona_id, **words)


async def post(bus: Bus, *items: InboxItem) -> list[int]:
    """Send items, all at once, and return their places in the stream."""
    sent = [
        await bus.publisher.send(subjects.inbox(SHARD, one.persona_id), msgspec.json.encode(one))
        for one in items
    ]
    return [await sequence for sequence in sent]


async def left(bus: Bus) -> list[int]:
    """Sequences of what the stream still holds."""
    return [message.sequence for message in await held(bus, streams.INBOX)]


async def events(bus: Bus, kind: str) -> list[dict[str, Any]]:
    """Payloads of the shard's own events of a type, in journal order."""
    found: list[JournalEvent] = [e for record in await shard_records(bus, SHARD) for e in record.events]
    return [msgspec.json.decode(e.event)["payload"] for e in found if e.event_type == kind]


@pytest.mark.fact("A1")
@pytest.mark.fact("A3")
async def test_what_is_sent_is_announced_and_comes_into_the_inbox_best_first(bus: Bus) -> None:
    async with open_box(bus) as box:
        await post(bus, item(1, priority=0.2), item(2, content="@Ann, the harbour?"), item(3))
        await eventually(lambda: len(box.ids()) == 3)
        assert box.ids() == ["i2", "i3", "i1"]
        assert [e["id"] for e in await events(bus, "inbox_received")] == ["i1", "i2", "i3"]
        assert [e["priority"] for e in await events(bus, "inbox_received")] == [0.2, 1.0, 0.6]
        assert box.woken == [(ANN, False), (ANN, True), (ANN, False)]


@pytest.mark.fact("A2")
async def test_a_killed_owner_s_successor_has_the_same_inbox_and_announces_nothing_twice(bus: Bus) -> None:
    async with open_box(bus) as first:
        await post(bus, item(1), item(2))
        await eventually(lambda: len(first.ids()) == 2)
    await post(bus, item(3))  # while nobody is there
    async with open_box(bus, "two") as second:
        await eventually(lambda: len(second.ids()) == 3)
        await eventually(lambda: announced(bus, 3))
        assert sorted(second.ids()) == ["i1", "i2", "i3"]
        assert [e["id"] for e in await events(bus, "inbox_received")] == ["i1", "i2", "i3"]


async def announced(bus: Bus, count: int) -> bool:
    return len(await events(bus, "inbox_received")) == count


@pytest.mark.fact("A2")
async def test_an_item_leaves_only_with_the_thought_that_took_it_up_and_is_never_taken_twice(
    bus: Bus,
) -> None:
    async with open_box(bus) as first:
        one, two = await post(bus, item(1), item(2))
        await eventually(lambda: len(first.ids()) == 2)
        assert await first.think((one, Outcome.HANDLED)) == Settled(stored=1, stale=0)
        assert first.ids() == ["i2"]
        assert await left(bus) == [one, two], "it is deleted behind its thought, not before"
    async with open_box(bus, "two") as second:
        await eventually(lambda: second.ids() == ["i2"])
        sweeping = asyncio.create_task(second.inboxes.sweep())
        await eventually(lambda: only(bus, two))
        assert second.owner.ledger.settled == set()
        sweeping.cancel()


async def only(bus: Bus, sequence: int) -> bool:
    return await left(bus) == [sequence]


@pytest.mark.fact("A2")
async def test_what_is_handled_stays_handled_when_a_checkpoint_takes_the_journal_s_place(bus: Bus) -> None:
    """The record that says so is trimmed before the item is deleted."""
    async with open_box(bus) as first:
        one, two = await post(bus, item(1), item(2))
        await eventually(lambda: len(first.ids()) == 2)
        await first.think((one, Outcome.HANDLED))
        first.owner.close()
        await eventually(lambda: first.owner._ended)
    await bus.api(f"STREAM.PURGE.{streams.JOURNAL}", {"filter": subjects.journal(SHARD), "keep": 1})
    async with open_box(bus, "two") as second:
        assert second.ids() == ["i2"]
        assert second.owner.ledger.settled == {one}
        assert second.owner.ledger.received == two


@pytest.mark.fact("A2")
async def test_the_worst_of_a_full_inbox_and_the_newcomer_gives_way_and_is_announced_whole(bus: Bus) -> None:
    async with open_box(bus) as box:
        await post(bus, *(item(n, priority=0.5) for n in range(INBOX_ITEMS)))
        await eventually(lambda: len(box.ids()) == INBOX_ITEMS, 20)
        await post(bus, item(5000, priority=0.1, content="Worst."), item(5001, priority=0.9))
        await eventually(lambda: dropped(bus, 2), 20)
        first, second = await events(bus, "inbox_dropped")
        assert (first["id"], first["reason"], first["content"]) == ("i5000", "full", "Worst.")
        assert second["id"] == f"i{INBOX_ITEMS - 1}", "of equals the one that came last"
        assert "i5001" in box.ids()
        await eventually(lambda: len(box.owner.ledger.settled) == 2)


async def dropped(bus: Bus, count: int) -> bool:
    return len(await events(bus, "inbox_dropped")) == count


@pytest.mark.fact("A5")
async def test_a_failing_item_is_taken_up_again_later_and_then_set_aside(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "RETRY_S", 60.0)
    takes = Takes(adaptive=False)
    async with open_box(bus) as box:
        (one,) = await post(bus, item(1))
        await eventually(lambda: box.ids() == ["i1"])
        entry = box.owner.ledger.persona(ANN)
        assert [taken.sequence for taken in takes.of(entry)] == [one]
        await box.think((one, Outcome.FAILED))
        assert takes.of(entry) == [], "not at once"
        assert entry.inbox is not None
        assert entry.inbox.next_retry(asyncio.get_running_loop().time()) is not None
        await box.think((one, Outcome.ASIDE))
        assert box.ids() == []
        assert box.owner.ledger.settled == {one}


async def test_a_repeated_publish_makes_one_item(bus: Bus) -> None:
    async with open_box(bus) as box:
        first, second = await post(bus, item(1), item(1))
        await eventually(lambda: box.owner.ledger.received == second)
        await eventually(lambda: box.ids() == ["i1"])
        assert len(await events(bus, "inbox_received")) == 1
        assert box.owner.ledger.settled == {second}
        assert first in await left(bus)


async def test_what_nobody_can_read_or_is_for_nobody_is_set_aside_and_stops_nothing(bus: Bus) -> None:
    async with open_box(bus) as box:
        stranger = next(f"x{n}" for n in range(1000) if shard_of(f"x{n}") == SHARD)
        await bus.publish(subjects.inbox(SHARD, ANN), b"{}")
        await bus.publish(subjects.inbox(SHARD, "elsewhere"), msgspec.json.encode(item(1)))
        await post(bus, item(2, stranger), item(3))
        await eventually(lambda: box.ids() == ["i3"])
        (gone,) = await events(bus, "inbox_dropped")
        assert (gone["id"], gone["reason"]) == ("i2", "unknown_persona")
        assert len(await held(bus, streams.DEAD_LETTERS)) == 2


@pytest.mark.fact("A6")
async def test_a_life_outlives_its_owner(bus: Bus) -> None:
    """Energy, what was spent and how often it responded, whether by the journal or by a checkpoint."""

    def lived(box: Box) -> tuple[int, int, float]:
        life = box.owner.ledger.persona(ANN).life
        assert life is not None
        return life.tokens, life.cpu_ms, life.state.last_activity

    async with open_box(bus) as first:
        await first.think()
        await first.think()
        wanted = lived(first)
        assert wanted[:2] == (240, 100)
    async with open_box(bus, "two") as second:
        assert lived(second) == wanted
        second.owner.close()
        await eventually(lambda: second.owner._ended)
    await bus.api(f"STREAM.PURGE.{streams.JOURNAL}", {"filter": subjects.journal(SHARD), "keep": 1})
    async with open_box(bus, "three") as third:
        assert lived(third) == wanted
        assert third.owner.ledger.spending.dump()[0].spent.tokens == 240


@pytest.mark.fact("A2")
async def test_what_comes_while_the_stream_is_read_is_taken_once(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by a storm: it came both ways, was held by the first, and deleted as a repeat by the second."""
    read, sent = Mailbox._next, list[int]()

    async def meanwhile(mailbox: Mailbox, subject: str, at: int) -> Arrival | None:
        if not sent:
            sent.extend(await post(bus, item(1), item(2)))
            await eventually(lambda: len(mailbox._waiting) == 2, what="the follower has offered both")
        return await read(mailbox, subject, at)

    monkeypatch.setattr(Mailbox, "_next", meanwhile)
    async with open_box(bus) as box:
        await eventually(lambda: set(box.ids()) == {"i1", "i2"})
        await post(bus, item(3))
        await eventually(lambda: len(box.ids()) == 3)
        assert set(sent) <= set(await left(bus)), "held until a thought has taken it up"
        assert not box.owner.ledger.settled
        await box.think(*((sequence, Outcome.HANDLED) for sequence in sent))
        await eventually(lambda: box.ids() == ["i3"])


@pytest.mark.fact("A3")
@pytest.mark.fact("A5")
@pytest.mark.parametrize("trimmed", [False, True])
async def test_a_takeover_leaves_an_inbox_as_it_was(
    bus: Bus, trimmed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Base priorities, their order and attempts, recent sources and known ids, by journal or checkpoint."""
    monkeypatch.setattr(inbox, "RETRY_S", 60.0)

    def seen(box: Box) -> list[tuple[str, float, int]]:
        inbox = box.owner.ledger.persona(ANN).inbox
        now = asyncio.get_running_loop().time()
        shown = inbox.shown(now) if inbox is not None else []
        return [(one.id, one.base_priority, one.attempts) for one in shown]

    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    async with open_box(bus) as first:
        await post(bus, item(0, source_id="room"))
        await eventually(lambda: len(first.ids()) == 1)
        sent = await post(bus, item(1, source_id="room"), item(2), item(3, timestamp=hour_ago), item(4))
        await eventually(lambda: len(first.ids()) == 5)
        await first.think((sent[1], Outcome.FAILED))
        await post(bus, *(item(n, source_id=f"hall {n}", priority=0.1) for n in range(10, 18)))
        await eventually(lambda: len(first.ids()) == 13)
        before = seen(first)
        by_id = {name: (base, attempts) for name, base, attempts in before}
        assert by_id["i1"] == (0.8, 0), "20 for its source, 10 for its age"
        assert (by_id["i2"], by_id["i3"], by_id["i4"]) == ((0.6, 1), (0.5, 0), (0.6, 0))
        if trimmed:
            first.owner.close()
            await eventually(lambda: first.owner._ended)
    if trimmed:
        await bus.api(f"STREAM.PURGE.{streams.JOURNAL}", {"filter": subjects.journal(SHARD), "keep": 1})
    async with open_box(bus, "two") as second:
        assert seen(second) == before, "the room is no recent source any more, and nothing is young"
        taken = Takes(adaptive=False).of(second.owner.ledger.persona(ANN))
        assert "i2" not in [one.id for one in taken], "its next attempt waits"
        await second.think((sent[1], Outcome.FAILED))
        assert ("i2", 0.6, 2) in seen(second)
        await post(bus, item(4), item(20, source_id="hall 17"))
        await eventually(lambda: "i20" in second.ids())
        assert [one[:2] for one in seen(second) if one[0] in ("i4", "i20")] == [("i20", 0.8), ("i4", 0.6)]
        assert len(second.ids()) == 14, "what was sent again came once"


@pytest.mark.fact("A2")
async def test_what_waits_is_there_once_however_much_has_come_since_and_whoever_took_over(bus: Bus) -> None:
    async with open_box(bus) as first:
        await post(bus, *(item(n) for n in range(IDS_KEPT + 10)))
        await eventually(lambda: len(first.ids()) == IDS_KEPT + 10)
        (again,) = await post(bus, item(0))
        await eventually(lambda: first.owner.ledger.received == again)
        assert len(first.ids()) == IDS_KEPT + 10
    async with open_box(bus, "two") as second:
        (again,) = await post(bus, item(1))
        await eventually(lambda: second.owner.ledger.received == again)
        assert len(second.ids()) == IDS_KEPT + 10


@pytest.mark.fact("A2")
async def test_of_equals_the_one_that_the_stream_has_first_is_first_whatever_the_clocks_say(bus: Bus) -> None:
    """A scheduler that is interrupted between reading two clocks takes an item for a later one."""
    box, late = Box(bus, "one", people(), in_step), iter([0.0, -0.5, 0.0, 3600.0, -3600.0])
    wall = lambda: time() + next(late)  # noqa: E731
    metrics = SchedulerMetrics(CollectorRegistry())
    mailbox = Mailbox(bus, box.owner, box.roster, in_step, lambda *_: None, lambda _: None, metrics, wall)
    began = time() - 10
    for n in range(1, 6):
        message = Arrival(subjects.inbox(SHARD, ANN), n, b"", began + n / 1000)
        mailbox._put(message, item(n, priority=0.5))
    assert box.ids() == ["i1", "i2", "i3", "i4", "i5"]


@pytest.mark.fact("A5")
async def test_what_was_handled_is_not_handled_again_after_a_takeover_when_its_publish_is_repeated(
    bus: Bus,
) -> None:
    async with open_box(bus) as first:
        (one,) = await post(bus, item(1))
        await eventually(lambda: first.ids() == ["i1"])
        await first.think((one, Outcome.HANDLED))
    async with open_box(bus, "two") as second:
        (again,) = await post(bus, item(1))
        await eventually(lambda: second.owner.ledger.received == again)
        assert second.ids() == []
        assert again in second.owner.ledger.settled
        assert len(await events(bus, "inbox_received")) == 1
