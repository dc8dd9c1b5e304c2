"""Two compressors publish one journal: every event once, in order, whoever is stopped when [3.3, 3.15]."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count as count_from

import msgspec
import pytest

from libs.bus.connection import Bus, connect
from libs.bus.provision import provision
from libs.bus.read import message_at
from libs.bus.telemetry import NoTelemetry
from libs.concurrency.tasks import Background, leaves
from libs.contracts import streams, subjects
from libs.contracts.journal import JournalEvent
from libs.contracts.streams import StreamBounds
from services.compressor.folding import Publication
from services.compressor.public_stream import PlaceLost, PublicStream
from services.compressor.publishing import AnotherJournal
from tests.bus.support import held, restart
from tests.services.publishers import (
    SHARDS,
    Late,
    Publisher,
    Sleeper,
    assert_published,
    count,
    placed,
    prefill,
    publishing,
    through,
    wanted,
)
from tests.support.broker import Broker
from tests.support.eventually import eventually
from tests.unit.make import shard_record, thought


@pytest.fixture(params=[False, True], ids=["chained", "batches"])
async def bus(broker: Broker, request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    """Streams as they are for a broker that writes now and then, and for one that flushes each write."""
    async with connect(broker.url, "test", NoTelemetry()) as connected:
        bounds = StreamBounds(max_events=2000, max_snapshots=128, sync_always=request.param)
        await provision(connected, bounds)
        yield connected


@pytest.mark.fact("3.15")
async def test_a_journal_becomes_public_in_its_order(bus: Bus) -> None:
    last = await prefill(bus)
    one = Publisher(bus)
    async with publishing(one):
        await through(one, last)
    await assert_published(bus)
    assert await count(bus) == 3 + 6 * 22, "three personas, and 11 events for 8 thoughts"
    assert await count(bus, streams.SNAPSHOTS) == 6 * 4
    assert len(await held(bus, streams.PROPOSALS)) == 6 * 2


@pytest.mark.fact("3.3")
async def test_two_publishers_at_once_store_each_event_exactly_once(bus: Bus, broker: Broker) -> None:
    """Each refuses the other now and then, and goes on behind what stands there."""
    last = await prefill(bus, 40)
    async with connect(broker.url, "other", NoTelemetry()) as other:
        one, two = Publisher(bus), Publisher(other)
        async with publishing(one, two):
            await through(one, last)
            await through(two, last)
            last = await prefill(bus, 40, begin=41)
            await through(one, last)
            await through(two, last)
        await assert_published(bus)


@pytest.mark.fact("3.3")
async def test_a_publisher_that_dies_in_the_middle_leaves_no_gap_and_no_repeat(bus: Bus) -> None:
    """Again and again, each time with messages on the way; the journal grows meanwhile."""
    last = await prefill(bus, 8)
    for n in range(1, 8):
        before = await count(bus)
        async with publishing(Publisher(bus)):
            await eventually(lambda: more_than(bus, before), what="some progress")  # noqa: B023
        last = await prefill(bus, 8, begin=8 * n + 1)
    one = Publisher(bus)
    async with publishing(one):
        await through(one, last)
    await assert_published(bus)


async def more_than(bus: Bus, before: int) -> bool:
    return await count(bus) > before


@pytest.mark.fact("3.3")
async def test_a_broker_that_dies_under_two_publishers_leaves_no_gap_and_no_repeat(
    bus: Bus, broker: Broker
) -> None:
    last = await prefill(bus, 70)
    async with connect(broker.url, "other", NoTelemetry()) as other:
        one, two = Publisher(bus), Publisher(other)
        async with publishing(one, two):
            await eventually(lambda: more_than(bus, 0))
            for _ in range(2):
                await restart(broker)
                await eventually(lambda: bus.connected and other.connected)
            await through(one, last)
            await through(two, last)
        await assert_published(bus)


@pytest.mark.fact("3.3")
async def test_streams_that_a_crash_left_unlike_far_are_each_completed(bus: Bus) -> None:
    """Events stand further than snapshots: only what is missing is published again."""
    last = await prefill(bus)
    first = Publisher(bus)
    async with publishing(first):
        await through(first, last)
    for sequence in range(13, 25):
        await bus.api(f"STREAM.MSG.DELETE.{streams.SNAPSHOTS}", {"seq": sequence})
    again = Publisher(bus)
    async with publishing(again):
        await through(again, last)
    for stream in (streams.EVENTS, streams.SNAPSHOTS):
        assert placed(await held(bus, stream)) == await wanted(bus, stream)


@pytest.mark.fact("3.3")
@pytest.mark.parametrize("stream", [streams.EVENTS, streams.SNAPSHOTS, streams.PROPOSALS])
async def test_what_a_stranger_puts_into_a_public_stream_makes_nobody_repeat_it(
    bus: Bus, stream: str
) -> None:
    subject = {
        streams.EVENTS: "perpetua.in.events.s.p.thought_generated",
        streams.SNAPSHOTS: "perpetua.in.snapshots.s.p",
        streams.PROPOSALS: "$KV.proposals.stranger",
    }[stream]
    for begin in (1, 9):
        last = await prefill(bus, 8, begin=begin)
        one = Publisher(bus)
        async with publishing(one):
            await through(one, last)
        for _ in range(3):
            await bus.publish(subject, b"garbage")
    for name in (streams.EVENTS, streams.SNAPSHOTS):
        ours = [message for message in await held(bus, name) if streams.PLACE in message.headers]
        assert placed(ours) == await wanted(bus, name)


@pytest.mark.fact("3.3")
async def test_where_only_strangers_messages_are_left_nothing_is_published(bus: Bus) -> None:
    """Nothing tells any more how far the stream holds the journal: rather nothing than all of it twice."""
    config = (await bus.api(f"STREAM.INFO.{streams.EVENTS}"))["config"]
    await bus.api(f"STREAM.UPDATE.{streams.EVENTS}", config | {"max_msgs": 10})
    one = Publisher(bus)
    async with publishing(one):
        await through(one, await prefill(bus, 2))
        for _ in range(10):
            await bus.publish("perpetua.in.events.s.p.thought_generated", b"garbage")
    end = PublicStream(bus, streams.EVENTS)
    with pytest.raises(PlaceLost, match="put there by a stranger"):
        await end.open()


@pytest.mark.fact("3.15")
async def test_proposals_that_the_broker_did_not_take_are_made_up_for(bus: Bus) -> None:
    """Found by a storm: their stream took nothing while events were stored, and nobody looked back."""
    config = (await bus.api(f"STREAM.INFO.{streams.PROPOSALS}"))["config"]
    last = await prefill(bus)
    await bus.api(f"STREAM.UPDATE.{streams.PROPOSALS}", config | {"max_msg_size": 1})
    one = Publisher(bus)
    async with publishing(one):
        await eventually(lambda: all_events(bus), within=20, what="every event")
        assert await held(bus, streams.PROPOSALS) == []
        await bus.api(f"STREAM.UPDATE.{streams.PROPOSALS}", config)
        await through(one, last)
    await assert_published(bus)


async def all_events(bus: Bus) -> bool:
    return await count(bus) == 3 + 6 * 22


@pytest.mark.fact("3.3")
async def test_a_publisher_that_slept_while_another_went_on_looks_again(bus: Bus, broker: Broker) -> None:
    """Found by a storm: what was published and trimmed meanwhile is no hole, and no reason to end."""
    last = await prefill(bus, 4)
    async with connect(broker.url, "other", NoTelemetry()) as other:
        sleeper = Sleeper(bus)
        async with publishing(sleeper):
            await through(sleeper, last)
            sleeper.awake.clear()
            another = Publisher(other)
            async with publishing(another):
                last = await prefill(other, 20, begin=5)
                await through(another, last)
            for shard in SHARDS:
                body = {"filter": subjects.journal(shard), "keep": 2}
                await other.api(f"STREAM.PURGE.{streams.JOURNAL}", body)
            sleeper.awake.set()
            await through(sleeper, last)
    stored = await held(bus, streams.EVENTS)
    assert [m.sequence for m in stored] == list(range(1, len(stored) + 1))
    assert len({m.headers[streams.PLACE] for m in stored}) == len(stored) == 3 + 6 * 33


@pytest.mark.fact("3.3")
async def test_what_is_trimmed_while_it_is_read_again_is_no_hole(bus: Bus) -> None:
    """It is public, as all that is trimmed; it is read for the streams that have had nothing of it yet."""
    await bus.publish(subjects.journal(1), shard_record(thought("p1"), number=1))
    for number in range(1, 13):  # more than the broker sends before it hears that some of it was read
        much = [JournalEvent(None, None, "check_result", msgspec.Raw(b'"%s"' % (b"." * 50_000)))] * 8
        await bus.publish(subjects.journal(2), shard_record(number=number, events=much))
    last = await bus.publish(subjects.journal(1), shard_record(thought("p2"), number=2))
    one, again = Publisher(bus), Sleeper(bus)
    async with publishing(one):
        await through(one, last)
    again.awake.clear()
    async with publishing(again):
        await again.asleep.wait()
        last = await bus.publish(subjects.journal(1), shard_record(thought("p3"), number=3))
        await bus.api(f"STREAM.PURGE.{streams.JOURNAL}", {"filter": subjects.journal(1), "seq": last})
        again.awake.set()
        await through(again, last)
    assert await count(bus) == 12 * 8 + 3


@pytest.mark.fact("3.3")
async def test_what_another_published_and_was_trimmed_leaves_no_room_for_what_follows(
    bus: Bus, broker: Broker
) -> None:
    """Found by a storm: the third event of a record took the place that it would have without a trimmed one.

    The two before it were refused; nobody asks for acknowledgements of those, and they were lost.
    """
    await bus.publish(subjects.journal(1), shard_record(thought("p1", 1), number=1))
    late = Late(bus)
    async with connect(broker.url, "other", NoTelemetry()) as other, publishing(late):
        await late.opened.wait()
        another = Publisher(other)
        async with publishing(another):
            trimmed = await bus.publish(subjects.journal(2), shard_record(thought("p2", 1), number=1))
            await through(another, trimmed)
        crowd = [thought(f"p{number}", 1) for number in range(3, 12)]
        last = await bus.publish(subjects.journal(3), shard_record(*crowd, number=1))
        expected = await wanted(bus, streams.EVENTS)
        await bus.api(f"STREAM.PURGE.{streams.JOURNAL}", {"filter": subjects.journal(2)})
        late.go_on.set()
        await through(late, last)
    assert placed(await held(bus, streams.EVENTS)) == expected


@pytest.mark.fact("3.3")
async def test_the_end_of_a_stream_that_another_moves_is_read_as_it_was(bus: Bus, broker: Broker) -> None:
    """A place that does not stand at its sequence would let later messages in at wrong places."""
    config = (await bus.api(f"STREAM.INFO.{streams.EVENTS}"))["config"]
    await bus.api(f"STREAM.UPDATE.{streams.EVENTS}", config | {"max_msgs": 32})
    subject = subjects.event_in(None, None, "check_result")
    async with connect(broker.url, "other", NoTelemetry()) as other, Background() as tasks:
        tasks.create_task(keep_publishing(other, subject))
        ends = [PublicStream(bus, streams.EVENTS) for _ in range(60)]
        for end in ends:
            await end.open()
    assert [end.place for end in ends] == [(end.sequence, int(end.sequence > 0)) for end in ends]


async def keep_publishing(bus: Bus, subject: str) -> None:
    """Fill the event stream as fast as it goes: the n-th message says that its place is n.1."""
    for begin in count_from(1, 64):
        headers = [{streams.PLACE: f"{number}.1"} for number in range(begin, begin + 64)]
        await asyncio.gather(*[bus.publish(subject, b"{}", header) for header in headers])


@pytest.mark.fact("3.3")
async def test_a_trimmed_journal_and_an_evicting_stream_change_nothing(bus: Bus) -> None:
    config = (await bus.api(f"STREAM.INFO.{streams.EVENTS}"))["config"]
    await bus.api(f"STREAM.UPDATE.{streams.EVENTS}", config | {"max_msgs": 10})
    last = await prefill(bus)
    one = Publisher(bus)
    async with publishing(one):
        await through(one, last)
    for shard in SHARDS:
        await bus.api(f"STREAM.PURGE.{streams.JOURNAL}", {"filter": subjects.journal(shard), "keep": 1})
    last = await prefill(bus, 8, begin=17)
    again = Publisher(bus)
    async with publishing(again):
        await through(again, last)
    stored = await held(bus, streams.EVENTS)
    assert placed(stored) == (await wanted(bus, streams.EVENTS))[-10:]
    assert stored[-1].sequence == 3 + 6 * 33


@pytest.mark.fact("3.3")
@pytest.mark.parametrize("grown", [2, 30], ids=["less", "more"])
async def test_a_journal_that_was_lost_and_grew_again_is_not_published_behind_the_old_one(
    bus: Bus, grown: int
) -> None:
    """As after a power failure that cost the journal its end, and the event stream nothing."""
    config = (await bus.api(f"STREAM.INFO.{streams.JOURNAL}"))["config"]
    one = Publisher(bus)
    async with publishing(one):
        await through(one, await prefill(bus, 4))
    before = await count(bus)
    await bus.api(f"STREAM.DELETE.{streams.JOURNAL}")
    await bus.api(f"STREAM.CREATE.{streams.JOURNAL}", config)
    await prefill(bus, grown)
    again = Publisher(bus)
    with pytest.raises(AnotherJournal, match="is not the one that was published last"):
        await again._session()
    assert await count(bus) == before


@pytest.mark.fact("3.3")
@pytest.mark.parametrize("public", [False, True], ids=["unread", "read again"])
async def test_a_hole_in_the_journal_stops_the_publisher(bus: Bus, public: bool) -> None:
    """Rather than publish what can no longer be made whole."""
    for number in (1, 2, 4):
        if number == 4 and public:
            one = Publisher(bus)
            async with publishing(one):
                await through(one, 2)
        await bus.publish(subjects.journal(1), shard_record(thought("p", number), number=number))
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(Publisher(bus).run(), 30)
    (error,) = leaves(raised.value)
    assert "j.1: record 3 is missing, 4 follows" in str(error)
    assert await count(bus) <= 3, "what the two records before it hold"


async def test_whoever_is_told_to_flush_has_published_what_the_journal_held(bus: Bus) -> None:
    last = await prefill(bus)
    one = Publisher(bus)
    async with publishing(one):
        await asyncio.wait_for(one.publishes.wait(), 30)
        await asyncio.wait_for(one.flush(), 30)
        assert one.position == last
        final = await message_at(bus, streams.EVENTS, await count(bus))
        assert final is not None
        assert placed([final]) == (await wanted(bus, streams.EVENTS))[-1:]


async def test_more_messages_than_a_batch_takes_go_in_several(bus: Bus) -> None:
    stream = PublicStream(bus, streams.EVENTS)
    await stream.open()
    subject = subjects.event_in(None, "p", "thought_generated")
    many = [Publication(streams.EVENTS, (1, n), subject, b"{}") for n in range(1, 2502)]
    async with Background() as tasks:
        tasks.create_task(stream.run())
        stored = await stream.send(many)
        assert await stored == 2501
    assert await count(bus) == 2501
    assert placed(await held(bus, streams.EVENTS))[-1][0] == "1.2501"
