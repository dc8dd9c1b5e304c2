"""A shard's recovery from checkpoint pages and its journal; torn and late checkpoints [3.3]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import pytest

from libs.bus.connection import Bus
from libs.bus.read import last_of
from libs.contracts import streams, subjects
from libs.contracts.journal import CheckpointHead, CheckpointPage, ItemArrived
from libs.contracts.limits import JOURNAL_DEPTH, RECORD_BYTES
from libs.journal.position import PublicPosition
from services.scheduler.checkpoint import CLOCKS_BEHIND_S, CheckpointFenced, Checkpoints
from services.scheduler.ledger import Ledger
from services.scheduler.owner import Fenced, ShardOwner
from tests.bus.support import held, restart
from tests.services.support import owner, shard_records
from tests.support.broker import Broker
from tests.support.eventually import eventually
from tests.unit.make import NOW, shard_record, thought

SHARD = 5
EVERYTHING = 2**40


@asynccontextmanager
async def owning(one: ShardOwner) -> AsyncIterator[ShardOwner]:
    """Take over, commit while the context is open, and give up with a last checkpoint, as a drain does."""
    await one.take_over()
    task = asyncio.create_task(one.run())
    try:
        yield one
        one.close()
        await asyncio.wait_for(task, 30)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def published() -> PublicPosition:
    """The position of a publisher that is always done."""
    position = PublicPosition()
    position.advance(EVERYTHING)
    return position


async def head(bus: Bus) -> CheckpointHead:
    found = await last_of(bus, streams.CHECKPOINTS, subjects.checkpoint_head(SHARD))
    assert found is not None
    return msgspec.json.decode(found.data, type=CheckpointHead)


async def page(bus: Bus, number: int = 0) -> CheckpointPage:
    found = await last_of(bus, streams.CHECKPOINTS, subjects.checkpoint_page(SHARD, number))
    assert found is not None
    return msgspec.json.decode(found.data, type=CheckpointPage)


def thought_of(ledger: Ledger, *persona_ids: str) -> list[int]:
    return [counters.thought_count for counters in ledger.counters(persona_ids)]


@pytest.mark.fact("3.3")
async def test_a_new_owner_knows_what_the_trimmed_journal_forgot(bus: Bus) -> None:
    async with owning(owner(bus, SHARD, "old", published())) as old:
        for count in range(1, 41):
            await old.submit([thought("p", count), thought(f"q{count}", 1)])
    assert len(await shard_records(bus, SHARD)) == 1, "the last record stays for ever"
    new = owner(bus, SHARD, "new", published())
    await new.take_over()
    assert thought_of(new.ledger, "p", "q1", "q40", "stranger") == [40, 1, 1, 0]
    assert new.ledger.persona("p").last_tick_at == old.ledger.persona("p").last_tick_at
    assert new.ledger.number == old.ledger.number + 1, "its claim"


@pytest.mark.fact("3.3")
async def test_what_is_not_public_yet_is_not_trimmed(bus: Bus) -> None:
    position = PublicPosition()
    async with owning(owner(bus, SHARD, "old", position)) as old:
        for count in range(1, 11):
            await old.submit([thought("p", count)])
        position.advance(6)
    left = [stored.sequence for stored in await held(bus, streams.JOURNAL, subjects.journal(SHARD))]
    assert left == [7, 8, 9, 10, 11], "1 was the claim; the checkpoint holds everything"


@pytest.mark.fact("3.3")
async def test_recovery_is_the_checkpoint_and_the_records_behind_it(bus: Bus) -> None:
    """The old owner dies without a last checkpoint."""
    old = owner(bus, SHARD, "old", published())
    await old.take_over()
    dying = asyncio.create_task(old.run())
    for count in range(1, JOURNAL_DEPTH // 2):
        await old.submit([thought("p", count)])
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    at, stored = await head(bus), await page(bus)
    assert 0 < stored.counters["p"][0] < JOURNAL_DEPTH // 2 - 1, "the checkpoint lags"
    assert (await shard_records(bus, SHARD))[0].number == at.number, "trimmed, but for the last it holds"
    new = owner(bus, SHARD, "new")
    await new.take_over()
    assert thought_of(new.ledger, "p") == [JOURNAL_DEPTH // 2 - 1]
    assert (await page(bus)).counters["p"][0] == JOURNAL_DEPTH // 2 - 1, "and it is checkpointed at once"


@pytest.mark.fact("3.3")
async def test_a_full_journal_is_taken_over_once_it_may_be_trimmed(bus: Bus) -> None:
    records = [shard_record(thought("p", n), number=n) for n in range(1, JOURNAL_DEPTH + 1)]
    for record in records:
        await bus.publish(subjects.journal(SHARD), record)
    position = PublicPosition()
    new = owner(bus, SHARD, "new", position)
    taking = asyncio.create_task(new.take_over())
    await eventually(lambda: last_of(bus, streams.CHECKPOINTS, subjects.checkpoint_head(SHARD)))
    assert not taking.done()
    position.advance(100)
    await asyncio.wait_for(taking, 30)
    assert thought_of(new.ledger, "p") == [JOURNAL_DEPTH]
    assert (await shard_records(bus, SHARD))[-1].claim


@pytest.mark.fact("3.3")
async def test_a_torn_checkpoint_is_pages_ahead_of_their_head(bus: Bus) -> None:
    """Its writer died between a page and the head: what the page holds already is skipped in folding."""
    async with owning(owner(bus, SHARD, "old")) as old:
        await old.submit([thought("p", 1)])
        before = await head(bus)
        await old.submit([thought("p", 2), thought("q", 1)])
    ahead = await page(bus)
    await bus.publish(subjects.checkpoint_head(SHARD), msgspec.json.encode(before))
    assert before.sequence < ahead.sequence
    async with owning(owner(bus, SHARD, "new", published())) as new:
        assert thought_of(new.ledger, "p", "q") == [2, 1]
        await new.submit([thought("p", 3)])
    assert (await page(bus)).counters.keys() == {"p", "q"}
    assert (await head(bus)).sequence == (await page(bus)).sequence


@pytest.mark.fact("3.3")
@pytest.mark.parametrize("pages", [1, 3])
async def test_pages_without_any_head_are_no_obstacle(bus: Bus, pages: int) -> None:
    """The first checkpoint was torn: there are pages, and no head that speaks of them."""
    await bus.publish(subjects.journal(SHARD), shard_record(thought("p", 1), number=1))
    for number in range(pages):
        torn = CheckpointPage(sequence=1, counters={"p": (1, NOW)} if number == 0 else {})
        await bus.publish(subjects.checkpoint_page(SHARD, number), msgspec.json.encode(torn))
    async with owning(owner(bus, SHARD, "new", published())) as new:
        await new.submit([thought("p", 2), thought("q", 1)])
    recovered = Ledger(SHARD)
    await Checkpoints(bus, SHARD).load(recovered)
    assert thought_of(recovered, "p", "q") == [2, 1]


def long_id(number: int) -> str:
    return f"{number:04d}" + "x" * 124


@pytest.mark.fact("3.3")
async def test_many_personas_stand_on_several_pages_and_all_of_them_come_back(bus: Bus) -> None:
    """Also pages that were begun after the last head, however many."""
    most = 4 * RECORD_BYTES // (2 * 128 + 64)
    ledger, stored = Ledger(SHARD), Checkpoints(bus, SHARD)
    everybody = [long_id(n) for n in range(most)]
    for name in everybody:
        ledger.restore(name, 7, NOW)
    await stored.store(Ledger(SHARD), 1)
    empty = await head(bus)
    ledger.put_back_changed(set(everybody))
    await stored.store(ledger, 2)
    assert (await head(bus)).pages >= 4
    await bus.publish(subjects.checkpoint_head(SHARD), msgspec.json.encode(empty))
    loaded, again = Ledger(SHARD), Checkpoints(bus, SHARD)
    await again.load(loaded)
    assert set(thought_of(loaded, *everybody)) == {7}
    loaded.put_back_changed({everybody[0], everybody[-1], "newcomer"})
    await again.store(loaded, 3)
    assert (await head(bus)).sequence == 3


@pytest.mark.fact("3.3")
async def test_a_late_older_checkpoint_never_overwrites_a_newer_one(bus: Bus) -> None:
    """The old owner wakes after the new one has stored its own; whatever it writes first is refused."""
    old, new = Checkpoints(bus, SHARD), Checkpoints(bus, SHARD)
    late, ledger = Ledger(SHARD), Ledger(SHARD)
    await old.load(late)
    await new.load(ledger)
    ledger.fold(9, shard_record(thought("p", 1)))
    await new.store(ledger, 9)
    late.fold(4, shard_record(thought("q", 1)))
    with pytest.raises(CheckpointFenced):
        await old.store(late, 4)
    with pytest.raises(CheckpointFenced):
        await old.store(Ledger(SHARD), 4)
    assert old.sequence == 0
    assert late.take_changed() == {"q"}, "nothing is forgotten by a checkpoint that failed"
    assert ((await head(bus)).sequence, set((await page(bus)).counters)) == (9, {"p"})


@pytest.mark.fact("3.3")
async def test_an_owner_whose_checkpoint_was_overtaken_lets_go(bus: Bus) -> None:
    old, new = owner(bus, SHARD, "old"), owner(bus, SHARD, "new")
    await old.take_over()
    running = asyncio.create_task(old.run())
    await old.submit([thought("p", 1)])
    await new.take_over()
    old.tidy(held=2)  # as many as it knows of: only the checkpoint tells it
    with pytest.raises(Fenced, match="taken over by new"):
        await asyncio.wait_for(running, 30)
    assert (await page(bus)).sequence == (await head(bus)).sequence == 3


@pytest.mark.fact("3.3")
async def test_a_checkpoint_that_was_stored_as_the_broker_died_is_known(
    bus: Bus, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.scheduler.checkpoint._ATTEMPTS", 60)  # for as long as the broker takes
    stored, ledger = Checkpoints(bus, SHARD), Ledger(SHARD)
    for sequence in range(1, 4):
        ledger.fold(sequence, shard_record(thought("p", sequence), number=sequence))
        storing = asyncio.create_task(stored.store(ledger, sequence))
        await asyncio.sleep(0)
        await restart(broker)
        await eventually(lambda: bus.connected, 30)
        await asyncio.wait_for(storing, 30)
        assert ((await head(bus)).sequence, (await page(bus)).counters["p"][0]) == (sequence, sequence)


class Dying:
    """A bus that loses its process at a write."""

    def __init__(self, bus: Bus, writes: int) -> None:
        self._bus = bus
        self.writes = writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def publish(self, *arguments: Any) -> int:
        if not self.writes:
            raise asyncio.CancelledError
        self.writes -= 1
        return await self._bus.publish(*arguments)


def grown(records: int) -> list[bytes]:
    """A journal in which three personas get more and more, and others come."""
    return [
        shard_record(
            thought(f"n{n}", 1),
            number=n,
            arrived=[
                ItemArrived(name, 100 * n + k, 60, bytes(8), n.to_bytes(8, "big"))
                for k, name in enumerate(["p", "q", "r"][: n % 4])
            ],
        )
        for n in range(1, records + 1)
    ]


def everything(ledger: Ledger) -> dict[str, Any]:
    names = ["p", "q", "r", *(f"n{n}" for n in range(1, 60))]
    return {"counts": thought_of(ledger, *names), "mail": ledger.stored_mail(names)}


@pytest.mark.fact("3.3")
@pytest.mark.fact("A2")
async def test_personas_that_move_to_other_pages_are_lost_by_no_crash(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner dies at each write of a checkpoint in turn; the next one finds everything, and can store."""
    monkeypatch.setattr("services.scheduler.checkpoint.PAGE_BYTES", 1500)
    records = grown(59)
    whole = Ledger(SHARD)
    for sequence, record in enumerate(records, start=1):
        whole.fold(sequence, record)
    died = at = 0
    while at < len(records):
        at = min(at + 20, len(records))
        for writes in range(100):
            dying = Dying(bus, writes)
            stored, ledger = Checkpoints(cast("Bus", dying), SHARD), Ledger(SHARD)
            await stored.load(ledger)
            for sequence, record in enumerate(records[:at], start=1):
                if sequence > stored.sequence:  # what is older is trimmed
                    ledger.fold(sequence, record)
            assert everything(ledger)["mail"].keys() <= {"p", "q", "r"}
            try:
                await stored.store(ledger, at)
            except asyncio.CancelledError:
                died, at = died + 1, min(at + 1, len(records))  # and goes on
            else:
                break
    loaded = Ledger(SHARD)
    await Checkpoints(bus, SHARD).load(loaded)
    assert everything(loaded) == everything(whole)
    assert (await head(bus)).pages >= 5 and died >= 10


@pytest.mark.fact("A17")
async def test_while_everybody_rests_idle_clocks_are_stored_now_and_then_and_when_the_shard_is_given_up(
    bus: Bus,
) -> None:
    ran = [1000.0]
    resting = ShardOwner(
        bus, SHARD, "one", published(), lambda _: False, lambda _, __: None, running=lambda: ran[0]
    )

    async def stored_at() -> float:
        return (await head(bus)).ran_s

    async with owning(resting) as one:
        await one.submit([thought("p", 1)])
        one.tidy(1)
        await eventually(lambda: one.is_tidy(1), what="trimmed")
        before, page_before = await stored_at(), await page(bus)
        ran[0] += 5 * CLOCKS_BEHIND_S
        assert one.is_tidy(1), "no clock has run that may end somebody"
        one.ledger.clocks_run = True
        for _ in range(2):
            one.tidy(1)
            await eventually(lambda: one.is_tidy(1), what="stored")
            ran[0] += CLOCKS_BEHIND_S - 1
            assert one.is_tidy(1)
            ran[0] += 1
            assert not one.is_tidy(1)
        one.tidy(1)
        await eventually(lambda: one.is_tidy(1), what="stored")
        assert await stored_at() == before + 7 * CLOCKS_BEHIND_S
        ran[0] += 3.5
    assert await stored_at() == before + 7 * CLOCKS_BEHIND_S + 3.5
    assert await page(bus) == page_before, "only heads were stored"
    ran[0] += 1e6
    next_one = ShardOwner(
        bus, SHARD, "two", published(), lambda _: False, lambda _, __: None, running=lambda: ran[0]
    )
    await next_one.take_over()
    assert next_one.ledger.ran() == before + 7 * CLOCKS_BEHIND_S + 3.5
