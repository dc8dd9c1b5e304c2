"""Schedulers agree who answers a swarm-wide post, and a place that nobody uses goes to the next [A5]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec import structs
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.bus.read import last_of
from libs.bus.telemetry import NoTelemetry
from libs.cognition.answer import Answer, failed
from libs.cognition.compose import compose
from libs.concurrency.tasks import Background
from libs.contracts import streams, subjects
from libs.contracts.inbox import InboxItem, Post, copy_id
from libs.contracts.limits import ITEM_ATTEMPTS
from libs.contracts.tokens import shard_of
from libs.contracts.work import Settled, TakenItem
from libs.roster.state import Roster
from services.scheduler import offers
from services.scheduler.inbox import Held
from services.scheduler.inboxes import Inboxes
from services.scheduler.metrics import SchedulerMetrics
from services.scheduler.notes import Note
from services.scheduler.offers import Offers
from services.scheduler.owner import Fenced, ShardOwner
from services.scheduler.posts import Posts
from services.scheduler.taking import Takes
from tests.services.support import in_step, owner
from tests.support.eventually import eventually
from tests.unit.make import NOW, Tree, item
from tests.unit.messages import decision

NAMES = ("ann", "bob", "cid", "dot", "eve")
POST = "post-1"


class Scheduler:
    """Inboxes and offers of some personas' shards, as one process has them."""

    def __init__(self, bus: Bus, boot: str, roster: Roster, names: Iterable[str]) -> None:
        self.bus = bus
        self.owners: dict[int, ShardOwner] = {
            shard: owner(bus, shard, boot) for shard in {shard_of(name) for name in names}
        }
        self.woken: list[str] = []
        self.posts = Posts(bus, NoTelemetry(), lambda before, post: self.offers.changed(before, post))
        self.offers = Offers(self.posts, lambda name, _: self.woken.append(name), boot)
        metrics = SchedulerMetrics(CollectorRegistry())
        self.inboxes = Inboxes(
            bus, roster, in_step, self.owners, lambda *_: None, self.offers, metrics, NoTelemetry()
        )
        self.takes = Takes(adaptive=False, answers=self.posts.answers)

    def of(self, name: str) -> ShardOwner:
        return self.owners[shard_of(name)]

    def copy(self, name: str) -> Held | None:
        """A persona's copy of the post, while an inbox holds it."""
        entry = self.of(name).ledger.known(name)
        return next(iter(entry.inbox), None) if entry is not None and entry.inbox else None

    def take_up(self, name: str) -> list[TakenItem]:
        return self.takes.of(self.of(name).ledger.persona(name))

    async def think(self, name: str, answer: Answer) -> Settled:
        """Store a thought that takes up whatever its persona may take up now."""
        asked = structs.replace(
            item(name, self.of(name).ledger.persona(name).count + 1), inbox=self.take_up(name)
        )
        assert asked.inbox, f"{name} has something to take up"
        settled = await self.of(name).submit([compose(asked, 1, answer, NOW)])
        self.offers.decided(self.of(name))
        return settled

    async def answer(self, name: str) -> Settled:
        return await self.think(name, Answer(text=decision(True, f"So says {name}.")))

    async def decline(self, name: str) -> Settled:
        return await self.think(name, Answer(text=decision(False, "")))

    def reap(self, roster: Roster, name: str) -> None:
        """What `Changes` does with the inbox of a persona that is reaped."""
        entry, copy = self.of(name).ledger.persona(name), self.copy(name)
        assert copy is not None
        entry.inbox = None
        self.of(name).say(Note(dropped=[copy.sequence]))
        self.offers.copied(copy)


@asynccontextmanager
async def scheduling(
    bus: Bus, roster: Roster, *names: str, boot: str = "one", offering: bool = True
) -> AsyncIterator[Scheduler]:
    """A scheduler that owns the personas' shards; it dies as by kill when the context ends."""
    made = Scheduler(bus, boot, roster, names or NAMES)
    for one in made.owners.values():
        await one.take_over()
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(Background())
        for one in made.owners.values():
            tasks.create_task(ended(one))
        tasks.create_task(made.inboxes.run())
        tasks.create_task(made.posts.run())
        if offering:
            tasks.create_task(made.offers.run())
        for one in made.owners.values():
            await stack.enter_async_context(made.inboxes.opened(one))
        yield made


async def ended(one: ShardOwner) -> None:
    with suppress(Fenced):
        await one.run()


def people(*names: str, **charters: str) -> Roster:
    tree = Tree()
    for name in names or NAMES:
        tree.create(name, name=name.title(), charter=charters.get(name, "Watch the harbour."))
    return tree.roster


async def send(bus: Bus, *names: str, most: int = 2, content: str = "Is it calm?", **more: Any) -> None:
    """Send a post to personas, in this order and without waiting for each, as a gateway does."""
    encode = msgspec.json.encode
    await bus.publish(subjects.post_key(POST), encode(Post(id=POST, answers_most=most)))
    at = datetime.now(UTC)
    sent: list[asyncio.Future[int]] = []
    for name in names or NAMES:
        words: dict[str, Any] = {"id": copy_id(POST, name), "persona_id": name, "content": content}
        copy = InboxItem(**words, timestamp=at, post_id=POST, answers_most=most, **more)
        sent.append(await bus.publisher.send(subjects.inbox(shard_of(name), name), encode(copy)))
    await asyncio.gather(*sent)


async def stored(bus: Bus) -> Post:
    found = await last_of(bus, streams.POSTS, subjects.post_key(POST))
    assert found is not None
    return msgspec.json.decode(found.data, type=Post)


async def granted(bus: Bus, count: int) -> list[str] | None:
    """Who has a place, once so many have."""
    names = (await stored(bus)).granted
    return names if len(names) == count else None


async def seated(bus: Bus, *schedulers: Scheduler, most: int = 2) -> list[str]:
    """Wait until so many have a place, and their schedulers know it; return them."""

    async def known() -> list[str] | None:
        names = await granted(bus, most) or []
        may = [one.copy(name) for name in names for one in schedulers if shard_of(name) in one.owners]
        return names if names and all(copy is not None and copy.may_answer for copy in may) else None

    return await eventually(known, what="places are had") or []


@pytest.mark.fact("A5")
async def test_when_those_who_have_places_decline_others_get_them_and_the_rest_see_the_answers(
    bus: Bus,
) -> None:
    async with scheduling(bus, people()) as one:
        await send(bus)
        first = await seated(bus, one)
        rest = [name for name in NAMES if name not in first]
        assert [one.take_up(name) for name in rest] == [[], [], []], "they wait"
        for name in first:
            await one.decline(name)
        second = await seated(bus, one)
        assert not set(first) & set(second)
        for name in second:
            await one.answer(name)
        (last,) = set(rest) - set(second)
        (seen,) = await eventually(lambda: one.take_up(last), what="it may read the post") or []
        assert not seen.may_answer
        assert sorted(seen.answers) == sorted(f"name of {name}: So says {name}." for name in second)
        await one.answer(last)
        assert await answered(bus, *second)
        assert one.offers._desks == {}, "nothing is left to be done"


@pytest.mark.fact("A5")
@pytest.mark.parametrize("apart", [False, True])
async def test_who_is_named_has_the_place_whoever_s_copy_comes_first(
    bus: Bus, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one scheduler, and among two."""
    monkeypatch.setattr(offers, "HOLD_BACK_S", 5.0)  # between the first copy's coming and the last's
    roster = people(dot="Keep the lighthouse.")
    async with AsyncExitStack() as stack:
        parts = [("ann", "bob", "cid"), ("dot", "eve")] if apart else [NAMES]
        several = [
            await stack.enter_async_context(scheduling(bus, roster, *names, boot=f"boot-{names[0]}"))
            for names in parts
        ]
        await send(bus, content="What does @Eve say of the lighthouse?", most=1)
        assert await seated(bus, *several, most=1) == ["eve"]
        await several[-1].decline("eve")
        assert await eventually(lambda: seated_at(bus, "dot"), what="the relevant one is next")


async def seated_at(bus: Bus, name: str) -> bool:
    return (await stored(bus)).granted == [name]


@pytest.mark.fact("A5")
async def test_a_place_of_a_persona_that_is_reaped_or_fails_is_free_again(bus: Bus) -> None:
    roster = people()
    async with scheduling(bus, roster) as one:
        await send(bus, most=1)
        (first,) = await seated(bus, one, most=1)
        one.reap(roster, first)
        (second,) = await eventually(lambda: others(bus, first), what="another has it") or []
        copy = one.copy(second)
        assert copy is not None
        await eventually(lambda: copy.may_answer)
        copy.standing.attempts = ITEM_ATTEMPTS - 1
        await one.think(second, failed("no answer"))
        assert one.copy(second) is None, "set aside"
        assert await eventually(lambda: others(bus, first, second), what="a third has it")


async def others(bus: Bus, *names: str) -> list[str]:
    """Who has a place, where none of these has one."""
    post = await stored(bus)
    return post.granted if not set(post.granted) & set(names) else []


@pytest.mark.fact("A5")
async def test_a_place_that_nobody_uses_goes_to_who_wants_it_and_comes_back(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a persona that is out of credits, or rests."""
    monkeypatch.setattr(offers, "UNUSED_S", 0.2)
    async with scheduling(bus, people("ann", "bob"), "ann", "bob") as one:
        await send(bus, "ann", "bob", most=1)
        (first,) = await seated(bus, one, most=1)
        (second,) = {"ann", "bob"} - {first}
        copy = one.copy(second)
        assert copy is not None
        await eventually(lambda: copy.may_answer, what="it has the place")
        assert not one.take_up(first), "it waits again"
        await one.decline(second)
        (again,) = await eventually(lambda: one.take_up(first), what="nobody else wants it") or []
        assert again.may_answer


@pytest.mark.fact("A5")
async def test_a_place_that_a_thought_under_way_may_use_is_left_to_it(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers, "UNUSED_S", 0.1)
    async with scheduling(bus, people("ann", "bob"), "ann", "bob") as one:
        monkeypatch.setattr(one.offers, "_in_flight", lambda _: True)
        await send(bus, "ann", "bob", most=1)
        (first,) = await seated(bus, one, most=1)
        await eventually(lambda: wanted(bus))
        before = await stored(bus)
        for _ in range(5):
            await asyncio.sleep(0.1)
            await one.offers._look(POST)
        assert await stored(bus) == before
        await one.answer(first)
        await eventually(lambda: answered(bus, first))


async def wanted(bus: Bus) -> bool:
    return (await stored(bus)).wanted


async def answered(bus: Bus, *names: str) -> bool:
    return {answer.persona_id for answer in (await stored(bus)).answers} == set(names)


@pytest.mark.fact("A5")
async def test_a_successor_of_a_killed_scheduler_leaves_places_to_those_who_have_them(bus: Bus) -> None:
    roster = people()
    async with scheduling(bus, roster) as first:
        await send(bus)
        names = await seated(bus, first)
    async with scheduling(bus, roster, boot="two") as second:
        assert await eventually(lambda: asked_by(bus, "two"), what="it has asked again")
        assert await seated(bus, second) == names
        for name in names:
            await second.answer(name)
        await eventually(lambda: answered(bus, *names))
        *_, last = [name for name in NAMES if name not in names]
        (read,) = await eventually(lambda: second.take_up(last), what="it may read the post") or []
        assert (read.may_answer, len(read.answers)) == (False, 2)


async def asked_by(bus: Bus, boot: str) -> bool:
    return {one.boot for one in (await stored(bus)).asked.values()} == {boot}


@pytest.mark.fact("A5")
@pytest.mark.parametrize("checkpoint", [False, True])
async def test_what_was_decided_before_a_kill_is_told_by_the_successor(
    bus: Bus, checkpoint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two with places one answers and one declines; the scheduler ends before the post says either."""
    roster = people()
    async with scheduling(bus, roster) as first:
        await send(bus)
        says, declines = await seated(bus, first)
        monkeypatch.setattr(first.offers, "_tell", stuck)
        await first.answer(says)
        await first.decline(declines)
        if checkpoint:
            for one in first.owners.values():
                one.close()
            await eventually(lambda: all(one._ended for one in first.owners.values()))
    assert (await stored(bus)).answers == []
    if checkpoint:  # what says so in the journal is trimmed
        for shard in first.owners:
            kept = {"filter": subjects.journal(shard), "keep": 1}
            await bus.api(f"STREAM.PURGE.{streams.JOURNAL}", kept)
    async with scheduling(bus, roster, boot="two"):
        await eventually(lambda: answered(bus, says), what="the answer is told")
        now = await eventually(lambda: others(bus, declines), what="the place is free")
        assert now and now[0] == says
        assert await eventually(lambda: granted(bus, 2), what="another has it")


async def stuck(_: str) -> None:
    await asyncio.Event().wait()


@pytest.mark.fact("A5")
@pytest.mark.parametrize("asks_again", [True, False])
async def test_an_owner_that_was_overtaken_frees_no_place_of_its_successor_s(
    bus: Bus, asks_again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not know yet that its shards are another's, and would take the places back unused."""
    monkeypatch.setattr(offers, "UNUSED_S", 60.0)
    roster = people()
    async with scheduling(bus, roster, offering=False) as first:
        await send(bus)
        await eventually(lambda: all(first.copy(name) for name in NAMES))
        await first.offers._look(POST)
        await asyncio.sleep(offers.HOLD_BACK_S)
        await first.offers._look(POST)
        names = await seated(bus, first)
        await eventually(lambda: wanted(bus))
        async with scheduling(bus, roster, boot="two", offering=asks_again):
            await eventually(lambda: asked_by(bus, "two" if asks_again else "one"))
            for copy in first.offers._desks[POST].copies.values():
                copy.unused_since = float("-inf")  # to this owner alone: its successor looks, too
            await first.offers._look(POST)
            assert (await stored(bus)).granted == names


@pytest.mark.fact("A5")
async def test_a_post_that_is_forgotten_is_read_and_answered_by_nobody(bus: Bus) -> None:
    async with scheduling(bus, people("ann"), "ann") as one:
        at = datetime.now(UTC)
        copy = InboxItem(id="i", persona_id="ann", content="So?", timestamp=at, post_id="forgotten")
        await bus.publish(subjects.inbox(shard_of("ann"), "ann"), msgspec.json.encode(copy))
        (read,) = await eventually(lambda: one.take_up("ann")) or []
        assert not read.may_answer


@pytest.mark.fact("A5")
async def test_a_persona_with_two_copies_has_one_place_for_the_later_one(bus: Bus) -> None:
    async with scheduling(bus, people("ann", "bob"), "ann", "bob") as one:
        await send(bus, "ann", "bob")
        await seated(bus, one)
        again = InboxItem(
            id="again", persona_id="ann", content="Is it?", timestamp=datetime.now(UTC), post_id=POST
        )
        await bus.publish(subjects.inbox(shard_of("ann"), "ann"), msgspec.json.encode(again))
        inbox = one.of("ann").ledger.persona("ann").inbox
        assert inbox is not None
        earlier, later = await eventually(lambda: len(inbox) == 2 and list(inbox)) or []
        await eventually(lambda: later.may_answer)
        assert not earlier.may_answer
        assert set((await stored(bus)).granted) == {"ann", "bob"}
