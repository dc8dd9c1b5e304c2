"""A connection that outlives the broker, and the requests over it."""

from __future__ import annotations

import asyncio
import time

import pytest

from libs.bus.connection import Bus, connect
from libs.bus.errors import ApiRefused, BusError, NoAnswer
from libs.bus.telemetry import NoTelemetry
from libs.contracts.journal import Position
from libs.contracts.refusals import Unavailable
from tests.bus.support import Noted, restart
from tests.support.broker import HOST, Broker
from tests.support.eventually import eventually


async def test_connecting_waits_for_the_broker(broker: Broker) -> None:
    broker.kill()
    noted, connected = Noted(), asyncio.Event()

    async def wait() -> None:
        async with connect(broker.url, "test", noted):
            connected.set()

    waiting = asyncio.create_task(wait())
    await eventually(lambda: len(noted.faults) >= 2, what="two tries")
    assert {fault.kind for fault in noted.faults} == {"connection"}
    assert not connected.is_set()
    await asyncio.to_thread(broker.start)
    await waiting
    assert connected.is_set()


async def test_the_connection_comes_back_and_says_so(bus: Bus, broker: Broker) -> None:
    said: list[str] = []
    with bus.on_reconnect(lambda: said.append("back")):
        assert bus.connected
        broker.kill()
        await eventually(lambda: not bus.connected)
        await asyncio.to_thread(broker.start)
        await eventually(lambda: said == ["back"])
        assert bus.connected
    await restart(broker)
    await eventually(lambda: bus.connected)
    assert said == ["back"], "nobody listens any more"
    assert not bus.lost.done()


async def test_a_try_that_gets_no_answer_leaves_no_connection_open(
    bus: Bus, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that stands still accepts: each try left an open socket behind, for as long as that lasted."""
    monkeypatch.setitem(bus.client.options, "connect_timeout", 0.2)
    tries: list[asyncio.Event] = []

    async def stand_still(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        closed = asyncio.Event()
        tries.append(closed)
        await reader.read()
        closed.set()
        writer.close()

    broker.kill()
    await eventually(lambda: not bus.connected)
    async with await asyncio.start_server(stand_still, HOST, broker.port):
        await eventually(lambda: len(tries) > 3, what="tries")
        assert all(closed.is_set() for closed in tries[:-1])
    await asyncio.to_thread(broker.start)
    await eventually(lambda: bus.connected)


async def test_a_connection_that_is_closed_for_good_ends_the_process(bus: Bus) -> None:
    await bus.client.close()
    with pytest.raises(BusError, match="the connection to the broker was closed"):
        await asyncio.wait_for(bus.lost, 30)


async def test_the_api_s_refusals_are_in_the_broker_s_words(bus: Bus) -> None:
    with pytest.raises(ApiRefused) as raised:
        await bus.api("STREAM.INFO.NONE")
    assert raised.value.not_found
    assert "stream not found" in str(raised.value)


async def test_an_api_that_does_not_answer_is_told(bus: Bus, broker: Broker) -> None:
    broker.pause()
    with pytest.raises(NoAnswer, match=r"\$JS\.API\.STREAM\.INFO\.JOURNAL"):
        await bus.api("STREAM.INFO.JOURNAL", timeout=0.3)
    broker.resume()
    assert (await bus.api("STREAM.INFO.JOURNAL"))["config"]["name"] == "JOURNAL"


async def test_a_peer_that_comes_late_is_asked_again(bus: Bus) -> None:
    asking = asyncio.create_task(bus.ask("peer", Position(sequence=1), Position, timeout=30))
    await asyncio.wait([asking], timeout=0.3)
    assert not asking.done(), "nobody listens yet"

    async def answer(message: object) -> None:
        await message.respond(b'{"sequence":2}')  # type: ignore[attr-defined]

    await bus.client.subscribe("peer", cb=answer)
    assert await asking == Position(sequence=2)


async def test_without_a_peer_an_ask_is_unavailable_in_time(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question is put once here: one that was under way at the end would be told as not answered."""
    monkeypatch.setattr("libs.bus.connection._NO_RESPONDERS_PAUSE_S", 0.6)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="nobody answers on peer"):
        await bus.ask("peer", Position(sequence=1), Position, timeout=0.5)
    assert 0.4 < time.monotonic() - began < 15


async def test_a_silent_peer_is_unavailable(bus: Bus) -> None:
    async def ignore(_: object) -> None:
        pass

    await bus.client.subscribe("peer", cb=ignore)
    with pytest.raises(Unavailable, match=r"no answer on peer within 0.3 s"):
        await bus.ask("peer", Position(sequence=1), Position, timeout=0.3)


async def test_a_note_while_the_broker_is_away_is_no_error(bus: Bus, broker: Broker) -> None:
    broker.kill()
    await eventually(lambda: not bus.connected)
    await bus.note("somewhere", Position(sequence=1))


async def test_leaving_while_the_broker_is_away_is_no_error(broker: Broker) -> None:
    """A process that drains then has nobody to send its last words to, and still ends well."""
    async with connect(broker.url, "test", NoTelemetry()) as bus:
        broker.kill()
        await eventually(lambda: not bus.connected)
        await bus.note("somewhere", Position(sequence=1))
    assert bus.client.is_closed


async def test_a_missing_permission_is_a_fault_that_is_told(broker: Broker) -> None:
    """Nobody else would say so: the publish just looks lost."""
    noted = Noted()
    async with connect(broker.url, "test", noted) as bus:
        await bus.client._process_err("'permissions violation for publish to \"x\"'")
        await eventually(lambda: noted.faults)
    assert noted.faults[0].kind == "denied"


async def test_leaving_closes_the_connection(broker: Broker) -> None:
    async with connect(broker.url, "test", NoTelemetry()) as bus:
        pass
    assert bus.client.is_closed
    assert bus.lost.cancelled()
