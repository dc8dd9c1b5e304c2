"""Publishes that are each resolved: stored, refused, or nobody knows."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import nats.errors
import pytest
from structlog.testing import capture_logs

from libs.bus.connection import Bus
from libs.bus.errors import OutcomeUnknown, SubjectFull, TooLarge, WrongLastSequence, refused
from libs.bus.publisher import Publisher, expecting, line
from libs.contracts.limits import JOURNAL_DEPTH
from tests.bus.support import held, kill_while_paused, until
from tests.support.broker import Broker
from tests.support.eventually import eventually


async def test_a_publish_returns_the_sequence_under_which_it_is_stored(bus: Bus) -> None:
    assert [
        await bus.publish("j.1", b"a"),
        await bus.publish("j.2", b"b"),
        await bus.publish("j.1", b"c"),
    ] == [
        1,
        2,
        3,
    ]
    assert [(m.sequence, m.data) for m in await held(bus, "JOURNAL", "j.1")] == [(1, b"a"), (3, b"c")]


async def test_publishes_leave_in_the_order_of_the_calls(bus: Bus) -> None:
    futures = [await bus.publisher.send("j.1", b"%d" % number) for number in range(200)]
    assert await asyncio.gather(*futures) == list(range(1, 201))
    assert [m.data for m in await held(bus, "JOURNAL")] == [b"%d" % number for number in range(200)]
    assert bus.publisher.outstanding == 0


async def test_headers_are_stored_with_the_message(bus: Bus) -> None:
    await bus.publish("j.1", b"a", {"P": "7.1", "X": "ü"})
    (stored,) = await held(bus, "JOURNAL")
    assert stored.headers == {"P": "7.1", "X": "ü"}


@pytest.mark.fact("3.3")
async def test_a_wrong_expectation_is_refused_and_says_what_is_there(bus: Bus) -> None:
    with pytest.raises(WrongLastSequence) as raised:
        await bus.publish("j.1", b"x", expecting(5))
    assert raised.value.actual == 0
    await bus.publish("j.2", b"a")
    last = await bus.publish("j.1", b"b", expecting(0))
    for wrong in (0, 1, 3):
        with pytest.raises(WrongLastSequence) as raised:
            await bus.publish("j.1", b"x", expecting(wrong))
        assert raised.value.actual == last == 2
    assert await bus.publish("j.1", b"c", expecting(last)) == 3
    assert [m.data for m in await held(bus, "JOURNAL")] == [b"a", b"b", b"c"]


@pytest.mark.fact("3.3")
async def test_a_full_subject_refuses_and_evicts_nothing(bus: Bus) -> None:
    await asyncio.gather(*[bus.publish("j.1", b"a") for _ in range(JOURNAL_DEPTH)])
    with pytest.raises(SubjectFull):
        await bus.publish("j.1", b"one more")
    assert len(await held(bus, "JOURNAL", "j.1")) == JOURNAL_DEPTH
    await bus.publish("j.2", b"another subject has room")


async def test_a_publish_that_no_stream_takes_now_is_to_be_repeated(bus: Bus) -> None:
    """Found by a storm: replicated streams have no leader for seconds after theirs was killed."""
    with pytest.raises(OutcomeUnknown, match="no stream listens on it"):
        await bus.publish("nowhere", b"a")


@pytest.mark.parametrize(
    ("code", "description", "kind"),
    [
        (10008, "JetStream system temporarily unavailable", OutcomeUnknown),
        (10009, "JetStream cluster can not handle request", OutcomeUnknown),
        (10023, "insufficient resources", OutcomeUnknown),
        (10077, "write /data/1.blk: no space left on device", OutcomeUnknown),
        (10077, "maximum messages per subject exceeded", SubjectFull),
        (10054, "message size exceeds maximum allowed", TooLarge),
    ],
)
def test_what_a_stream_says_in_trouble_is_no_refusal(code: int, description: str, kind: type) -> None:
    assert type(refused("j.1", code, description)) is kind


async def test_a_publish_that_is_too_large_for_its_stream_is_refused(bus: Bus) -> None:
    with pytest.raises(TooLarge):
        await bus.publish("perpetua.in.events.s.p.t", b"x" * (64 * 1024 + 1))


async def test_a_publish_that_is_too_large_for_the_broker_is_refused_and_nothing_else(
    bus: Bus,
) -> None:
    """Headers count; beside acknowledged publishes it holds for those that are posted."""
    most, head = bus.client.max_payload, len("NATS/1.0\r\nP: 7.1\r\n\r\n")
    with capture_logs() as logs:
        for size in (most - head + 1, most, most + 1):
            with pytest.raises(TooLarge, match=f"max_payload is {most}"):
                await bus.publish("j.1", bytes(size), {"P": "7.1"})
            with pytest.raises(TooLarge, match=f"max_payload is {most}"):
                await bus.publisher.post([("j.1", b"", ""), ("j.1", bytes(size), line("P", "7.1"))])
        assert await bus.publish("j.1", bytes(most - head), {"P": "7.1"}) == 1
    assert (logs, bus.publisher.outstanding) == ([], 0)


async def test_without_an_ack_the_outcome_is_unknown_and_may_be_stored(bus: Bus, broker: Broker) -> None:
    publisher = Publisher(bus.client, deadline=0.5)
    await publisher.open(bus.guarded, bus.crashed)
    broker.pause()
    with pytest.raises(OutcomeUnknown, match=r"no ack within 0\.5 s"):
        await publisher.publish("j.1", b"a")
    assert publisher.outstanding == 0
    broker.resume()
    await until(lambda: held(bus, "JOURNAL"), what="the message that was given up")
    publisher._deadline = 30.0
    assert await publisher.publish("j.1", b"b") == 2, "its late ack resolves nobody else's publish"
    await publisher.close()


async def test_no_more_publishes_are_outstanding_than_the_bound(bus: Bus, broker: Broker) -> None:
    publisher = Publisher(bus.client, max_outstanding=3, deadline=30.0)
    await publisher.open(bus.guarded, bus.crashed)
    broker.pause()
    futures = [await publisher.send("j.1", b"%d" % number) for number in range(3)]
    fourth = asyncio.create_task(publisher.send("j.1", b"3"))
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED, timeout=0.3)
    assert (publisher.outstanding, fourth.done()) == (3, False)
    broker.resume()
    assert await asyncio.gather(*futures) == [1, 2, 3]
    assert await (await fourth) == 4
    await publisher.close()


async def test_who_stops_waiting_for_an_ack_leaves_its_place(bus: Bus) -> None:
    publisher = Publisher(bus.client, max_outstanding=1)
    await publisher.open(bus.guarded, bus.crashed)
    for _ in range(3):
        future = await publisher.send("j.1", b"a")
        future.cancel()
    assert await publisher.publish("j.1", b"last") == 4
    await publisher.close()


async def test_the_loss_of_the_connection_fails_what_is_outstanding_at_once(
    bus: Bus, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before their deadline."""
    monkeypatch.setattr(bus.publisher, "_deadline", 100.0)
    broker.pause()
    futures = [await bus.publisher.send("j.1", b"a") for _ in range(5)]
    kill_while_paused(broker)
    async with asyncio.timeout(30):
        results = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(result) for result in results] == [OutcomeUnknown] * 5
    assert str(results[0]) == "no answer on j.1: the connection was lost"
    assert bus.publisher.outstanding == 0


async def test_publishes_go_on_after_the_broker_is_back(bus: Bus, broker: Broker) -> None:
    await bus.publish("j.1", b"a")
    broker.kill()
    await eventually(lambda: not bus.connected)
    await asyncio.to_thread(broker.start)
    await eventually(lambda: bus.connected)
    assert await bus.publish("j.1", b"b", expecting(1)) == 2


async def test_closing_fails_what_is_outstanding(bus: Bus, broker: Broker) -> None:
    publisher = Publisher(bus.client)
    await publisher.open(bus.guarded, bus.crashed)
    broker.pause()
    future = await publisher.send("j.1", b"a")
    await publisher.close()
    with pytest.raises(OutcomeUnknown, match="the connection is closing"):
        await future
    broker.resume()


async def test_a_publish_that_cannot_be_sent_raises_and_leaves_nothing_behind(bus: Bus) -> None:
    """Nor does asyncio complain of an exception that nobody retrieved."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    publisher = Publisher(bus.client, max_outstanding=1)
    await publisher.open(bus.guarded, bus.crashed)
    for _ in range(2):
        with pytest.raises(nats.errors.BadSubjectError):
            await publisher.publish("", b"a")
    assert publisher.outstanding == 0
    assert await publisher.publish("j.1", b"a") == 1
    await publisher.close()
    gc.collect()
    assert complaints == []
