"""One journal subject: appended under the sequence that was folded last, and by nobody else [3.3]."""

from __future__ import annotations

import asyncio
import shutil

import msgspec
import pytest

from libs.bus.connection import Bus, connect
from libs.bus.read import Stored
from libs.bus.telemetry import NoTelemetry
from libs.contracts.limits import JOURNAL_DEPTH, MARKER_ROOM
from libs.journal.tail import JournalFull, JournalHole, JournalRewound, Overtaken, Tail, append_marker
from tests.bus.support import held, kill_while_paused, restart
from tests.support.broker import Broker
from tests.support.eventually import eventually


class Writer(Tail):
    """A tail that remembers what it has folded."""

    def __init__(self, bus: Bus, subject: str = "j.1", *, numbered: bool = True) -> None:
        self.folded: list[tuple[int, bytes]] = []
        super().__init__(
            bus, subject, lambda sequence, data: self.folded.append((sequence, data)), numbered=numbered
        )

    @property
    def data(self) -> list[bytes]:
        return [data for _, data in self.folded]


async def stored(bus: Bus, subject: str = "j.1") -> list[bytes]:
    return [message.data for message in await held(bus, "JOURNAL", subject)]


async def append(writer: Writer, data: bytes) -> None:
    """Append for certain: whoever is overtaken tries again, unless the record is stored after all."""
    while data not in writer.data:
        try:
            await writer.append(data)
        except Overtaken:
            continue


async def fill(bus: Bus, count: int, subject: str = "j.1") -> None:
    await asyncio.gather(*[bus.publish(subject, b"%d" % number) for number in range(1, count + 1)])


@pytest.mark.fact("3.3")
async def test_an_append_is_folded_by_its_writer(bus: Bus) -> None:
    writer = Writer(bus)
    assert await writer.append(b"a") == 1
    await bus.publish("j.2", b"another subject")
    assert await writer.append(b"b") == 3
    assert writer.folded == [(1, b"a"), (3, b"b")]
    assert (writer.sequence, writer.held, writer.first_held) == (3, 2, 1)
    assert await stored(bus) == [b"a", b"b"]


@pytest.mark.fact("3.3")
async def test_a_writer_that_is_overtaken_stores_nothing_and_folds_what_it_missed(bus: Bus) -> None:
    fast, slow = Writer(bus), Writer(bus)
    await fast.append(b"a")
    await fast.append(b"b")
    with pytest.raises(Overtaken):
        await slow.append(b"x")
    assert slow.folded == fast.folded == [(1, b"a"), (2, b"b")]
    assert await stored(bus) == [b"a", b"b"]
    assert await slow.append(b"c") == 3
    with pytest.raises(Overtaken):
        await fast.append(b"y")
    assert await stored(bus) == [b"a", b"b", b"c"]


@pytest.mark.fact("3.3")
async def test_writers_that_race_store_each_record_once_and_fold_the_same_order(bus: Bus) -> None:
    writers = [Writer(bus) for _ in range(4)]

    async def write(number: int, writer: Writer) -> None:
        for count in range(20):
            await append(writer, b"%d-%d" % (number, count))

    await asyncio.gather(*[write(number, writer) for number, writer in enumerate(writers)])
    for writer in writers:
        await writer.catch_up()
    order = await stored(bus)
    assert len(order) == len(set(order)) == 80
    assert all(writer.data == order for writer in writers)
    for number in range(4):
        mine = [data for data in order if data.startswith(b"%d-" % number)]
        assert mine == [b"%d-%d" % (number, count) for count in range(20)]


@pytest.mark.fact("3.3")
async def test_an_append_that_timed_out_and_was_stored_is_folded_exactly_once(
    bus: Bus, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repetition is refused; the record that is there is folded like anybody's, and known as ours."""
    monkeypatch.setattr(bus.publisher, "_deadline", 0.3)
    writer = Writer(bus)
    await writer.append(b"a")
    broker.pause()
    appending = asyncio.create_task(writer.append(b"b"))
    await asyncio.wait([appending], timeout=0.8)
    assert not appending.done(), "while the broker is away, it waits"
    broker.resume()
    assert await asyncio.wait_for(appending, 30) == 2
    assert writer.folded == [(1, b"a"), (2, b"b")]
    assert await stored(bus) == [b"a", b"b"]
    await writer.append(b"c")
    assert await stored(bus) == [b"a", b"b", b"c"]


@pytest.mark.fact("3.3")
@pytest.mark.parametrize("paused_first", [True, False])
async def test_an_append_as_the_broker_dies_is_stored_exactly_once(
    bus: Bus, broker: Broker, paused_first: bool
) -> None:
    writer = Writer(bus)
    await writer.append(b"a")
    if paused_first:
        broker.pause()
    appending = asyncio.create_task(append(writer, b"b"))
    await asyncio.sleep(0)
    if paused_first:
        kill_while_paused(broker)
    else:
        broker.kill()
    await eventually(lambda: not bus.connected)
    await asyncio.to_thread(broker.start)
    await asyncio.wait_for(appending, 60)
    assert writer.data == await stored(bus) == [b"a", b"b"]


@pytest.mark.fact("2.9")
@pytest.mark.fact("4.2")
async def test_a_marker_fences_the_owner_s_next_append(bus: Bus) -> None:
    owner = Writer(bus)
    await owner.append(b"a")
    assert await append_marker(bus, "j.1", b"marker") == 2
    with pytest.raises(Overtaken):
        await owner.append(b"late")
    assert owner.data == await stored(bus) == [b"a", b"marker"]


async def test_an_owner_leaves_the_last_places_to_markers(bus: Bus) -> None:
    await fill(bus, JOURNAL_DEPTH - MARKER_ROOM - 1)
    owner = Writer(bus)
    assert await owner.catch_up() == JOURNAL_DEPTH - MARKER_ROOM - 1
    before = owner.has_room
    await owner.append(b"the owner's last")
    assert [before, owner.has_room] == [True, False]
    for _ in range(MARKER_ROOM):
        await append_marker(bus, "j.1", b"marker")
    with pytest.raises(JournalFull):
        await append_marker(bus, "j.1", b"one too many")


@pytest.mark.fact("3.3")
async def test_a_full_subject_refuses_and_a_trim_makes_room(bus: Bus) -> None:
    await fill(bus, JOURNAL_DEPTH)
    owner = Writer(bus)
    await owner.catch_up()
    before = list(owner.folded)
    with pytest.raises(JournalFull):
        await owner.append(b"x")
    assert owner.folded == before
    assert await owner.trim(100) == 100
    assert (owner.held, owner.first_held, owner.has_room) == (JOURNAL_DEPTH - 100, 101, True)
    assert await owner.append(b"x") == JOURNAL_DEPTH + 1
    assert (await stored(bus))[0] == b"101"


@pytest.mark.fact("3.3")
async def test_a_trim_keeps_the_last_record_always(bus: Bus) -> None:
    """Expected sequences compare with what is stored: an emptied subject would let a stranger write."""
    owner = Writer(bus)
    for data in (b"a", b"b", b"c"):
        await owner.append(data)
    assert await owner.trim(99) == 2
    assert await stored(bus) == [b"c"]
    assert (owner.held, owner.first_held, owner.sequence) == (1, 3, 3)
    assert await owner.trim(99) == 0
    assert await owner.append(b"d") == 4
    with pytest.raises(Overtaken):
        await Writer(bus).append(b"a stranger that expects nothing")


@pytest.mark.fact("3.3")
@pytest.mark.parametrize("ahead", [0, 1])
async def test_who_reads_behind_a_trim_that_went_past_it_is_told(bus: Bus, ahead: int) -> None:
    """Where records have no numbers nothing else shows it; `ahead` is how many of them it read in time."""
    fast, slow = Writer(bus), Writer(bus, numbered=False)
    await fast.append(b"a")
    await slow.catch_up()
    for data in (b"b", b"c"):
        await fast.append(data)
    read, reads = slow._next, 0

    async def meanwhile(after: int) -> Stored | None:
        nonlocal reads
        reads += 1
        if reads > ahead:
            await fast.trim(3)
        return await read(after)

    slow._next = meanwhile  # type: ignore[method-assign]
    with pytest.raises(JournalHole, match=r"j\.1: record 1 is missing"):
        await slow.append(b"late")
    assert await stored(bus) == [b"c"]


async def test_a_trim_leaves_other_subjects_and_later_records(bus: Bus) -> None:
    one, other = Writer(bus, "j.1"), Writer(bus, "j.2")
    for number in range(4):
        await one.append(b"%d" % number)
        await other.append(b"%d" % number)
    assert await one.trim(0) == 0
    assert await one.trim(4) == 2, "sequences 1 and 3; 4 is another subject's"
    assert await stored(bus, "j.1") == [b"2", b"3"]
    assert await stored(bus, "j.2") == [b"0", b"1", b"2", b"3"]


@pytest.mark.fact("3.3")
async def test_a_journal_that_lost_its_tail_is_told(bus: Bus, broker: Broker) -> None:
    writer = Writer(bus)
    for data in (b"a", b"b", b"c"):
        await writer.append(data)
    config = (await bus.api("STREAM.INFO.JOURNAL"))["config"]
    broker.kill()
    shutil.rmtree(broker.folder / "store")
    await asyncio.to_thread(broker.start)
    await eventually(lambda: bus.connected)
    await bus.api("STREAM.CREATE.JOURNAL", config)
    await bus.publish("j.1", b"a")
    with pytest.raises(JournalRewound, match=r"j\.1 ends at 1, but 3 was read from it"):
        await writer.append(b"d")
    assert await stored(bus) == [b"a"]


async def test_reading_without_folding_and_folding_afterwards(bus: Bus) -> None:
    for data in (b"a", b"b"):
        await bus.publish("j.1", data)
    writer = Writer(bus)
    peeked = await writer.peek()
    assert [(record.sequence, record.data) for record in peeked] == [(1, b"a"), (2, b"b")]
    assert writer.folded == []
    await bus.publish("j.1", b"c")
    assert [writer.offer(record.sequence, record.data) for record in peeked] == [True, True]
    assert [writer.offer(record.sequence, record.data) for record in peeked] == [False, False]
    assert await writer.catch_up() == 1
    assert writer.data == [b"a", b"b", b"c"]


async def test_a_sync_sees_every_append_before_it(bus: Bus) -> None:
    one, other = Writer(bus), Writer(bus)
    assert not await other.sync()
    await one.append(b"a")
    assert await other.sync()
    assert not await other.sync()
    assert other.data == [b"a"]


async def test_reads_wait_for_the_broker(bus: Bus, broker: Broker) -> None:
    await bus.publish("j.1", b"a")
    writer = Writer(bus)
    broker.kill()
    await eventually(lambda: not bus.connected)
    reading = asyncio.create_task(writer.catch_up())
    await asyncio.wait([reading], timeout=0.3)
    assert not reading.done()
    await asyncio.to_thread(broker.start)
    assert await asyncio.wait_for(reading, 60) == 1


@pytest.mark.fact("3.3")
async def test_nothing_is_lost_or_doubled_while_the_broker_is_killed_again_and_again(
    broker: Broker, bus: Bus
) -> None:
    """Two processes write one subject; each makes sure that each of its records is there."""
    async with connect(broker.url, "other", NoTelemetry()) as second:
        writers = [Writer(bus), Writer(second)]

        async def write(number: int, writer: Writer) -> None:
            for count in range(60):
                await append(writer, b"%d-%d" % (number, count))

        writing = asyncio.gather(*[write(number, writer) for number, writer in enumerate(writers)])
        for goal in (20, 60):
            await eventually(lambda: len(writers[0].folded) >= goal, within=60)  # noqa: B023 - awaited at once
            await restart(broker)
        await asyncio.wait_for(writing, 60)
        for writer in writers:
            await writer.catch_up()
        order = await stored(bus)
        assert sorted(order) == sorted(
            b"%d-%d" % (number, count) for number in range(2) for count in range(60)
        )
        assert writers[0].data == writers[1].data == order


@pytest.mark.fact("3.3")
async def test_what_is_no_record_is_passed_over_and_written_behind(bus: Bus) -> None:
    """A stranger's message is nobody's record: it fences the next append once, and that is all."""
    folded: list[int] = []

    def fold(_: int, data: bytes) -> None:
        folded.append(msgspec.json.decode(data, type=int))

    tail = Tail(bus, "j.1", fold)
    await tail.append(b"1")
    await bus.publish("j.1", b"garbage")
    with pytest.raises(Overtaken):
        await tail.append(b"2")
    await tail.append(b"2")
    again = Tail(bus, "j.1", fold)
    assert await again.catch_up() == 3
    assert folded == [1, 2, 1, 2]


async def test_a_journal_that_cannot_be_trimmed_now_is_trimmed_another_time(bus: Bus) -> None:
    """Found by a storm: a full disk refused it, and the registry ended."""
    config = (await bus.api("STREAM.INFO.JOURNAL"))["config"]
    tail = Writer(bus)
    for data in (b"a", b"b", b"c"):
        await tail.append(data)
    await bus.api("STREAM.UPDATE.JOURNAL", config | {"deny_purge": True})
    assert (await tail.trim(2), tail.held) == (0, 3)
    assert await stored(bus) == [b"a", b"b", b"c"]
