"""Making streams, buckets and the consumer: an admin step that is safe to repeat."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from libs.bus import provision as provisioning
from libs.bus.connection import Bus, connect
from libs.bus.provision import ProvisionError, provision, wait_until_provisioned
from libs.bus.telemetry import NoTelemetry
from libs.concurrency.tasks import beside
from libs.contracts import streams
from libs.contracts.streams import StreamBounds
from libs.supervisor.broker import find_server, is_free
from tests.bus.support import held
from tests.support.broker import HOST, Broker
from tests.support.eventually import eventually, eventually_sync
from tests.support.ports import free_port

BOUNDS = StreamBounds(max_events=2000, max_snapshots=128)


@pytest.fixture
async def empty(broker: Broker) -> AsyncIterator[Bus]:
    """A connection to a broker without any stream."""
    async with connect(broker.url, "test", NoTelemetry()) as bus:
        yield bus


async def names(bus: Bus) -> set[str]:
    return set((await bus.api("STREAM.NAMES"))["streams"] or [])


async def config(bus: Bus, stream: str) -> dict[str, object]:
    found: dict[str, object] = (await bus.api(f"STREAM.INFO.{stream}"))["config"]
    return found


async def test_everything_is_made_once(empty: Bus) -> None:
    made = await provision(empty, BOUNDS)
    assert set(made) == await names(empty) == {spec.name for spec in streams.specs(BOUNDS)}
    assert await provision(empty, BOUNDS) == []
    consumer = await empty.api("CONSUMER.INFO.THINK.thinkers")
    assert consumer["config"]["max_deliver"] == 4


async def test_repeating_it_keeps_what_is_stored(bus: Bus) -> None:
    await bus.publish("j.1", b"a")
    await bus.publish("$KV.personas.p", b"b")
    assert await provision(bus, BOUNDS) == []
    assert [message.data for message in await held(bus, "JOURNAL")] == [b"a"]
    assert [message.data for message in await held(bus, "KV_personas")] == [b"b"]


@pytest.mark.fact("1.1")
async def test_other_bounds_are_brought_up_to_date_in_place(bus: Bus) -> None:
    for number in range(60):
        await bus.publish("perpetua.in.events._._.t", b"%d" % number, {"P": f"{number + 1}.1"})
    assert await provision(bus, StreamBounds(max_events=32, max_snapshots=8, max_proposals=5)) == [
        "EVENTS",
        "SNAPSHOTS",
        "KV_proposals",
    ]
    assert (await config(bus, "EVENTS"))["max_msgs"] == 32
    assert (await config(bus, "SNAPSHOTS"))["max_msgs"] == 8
    assert (await config(bus, "KV_proposals"))["max_msgs"] == 5
    assert [message.data for message in await held(bus, "EVENTS")] == [b"%d" % n for n in range(28, 60)]


async def test_two_that_provision_at_once_do_not_disturb_each_other(empty: Bus) -> None:
    await asyncio.gather(provision(empty, BOUNDS), provision(empty, BOUNDS))
    assert await provision(empty, BOUNDS) == []


async def test_a_difference_that_cannot_be_mended_is_an_error_that_names_it(empty: Bus) -> None:
    other = {"name": "JOURNAL", "subjects": ["j.*"], "storage": "memory"}
    await empty.api("STREAM.CREATE.JOURNAL", other)
    with pytest.raises(ProvisionError, match=r"stream JOURNAL: .*storage"):
        await provision(empty, BOUNDS)


async def test_a_stream_of_somebody_else_in_the_way_is_an_error_that_names_it(empty: Bus) -> None:
    await empty.api("STREAM.CREATE.OTHER", {"name": "OTHER", "subjects": ["j.>"]})
    with pytest.raises(ProvisionError, match="stream JOURNAL: subjects overlap"):
        await provision(empty, BOUNDS)


async def test_a_process_waits_until_it_is_done_and_says_nothing_where_that_is_soon(empty: Bus) -> None:
    """Under `perpetua up` a service may be the quicker one; nobody is to provision by hand then."""
    with capture_logs() as logs:
        waiting = asyncio.create_task(wait_until_provisioned(empty))
        await asyncio.wait([waiting], timeout=0.3)
        assert not waiting.done()
        await provision(empty, BOUNDS)
        await asyncio.wait_for(waiting, 30)
    assert [entry for entry in logs if entry["event"] == "waiting_for_streams"] == []


async def test_a_process_that_waits_for_long_says_the_cure(
    empty: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provisioning, "_SAY_EVERY_S", 0.5)

    def said() -> list[str]:
        return [entry["cure"] for entry in logs if entry["event"] == "waiting_for_streams"]

    with capture_logs() as logs:
        async with beside(wait_until_provisioned(empty), "wait"):
            await eventually(lambda: said()[1:], what="that it waits, again and again")
    assert set(said()) == {"run `perpetua provision`"}


@contextmanager
def configured(folder: Path, configuration: str) -> Iterator[str]:
    """Somebody's own broker."""
    port = free_port(HOST)
    (folder / "nats.conf").write_text(f"host: {HOST}\nport: {port}\n{configuration}\n")
    process = subprocess.Popen(
        [find_server(), "-c", str(folder / "nats.conf")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually_sync(lambda: not is_free(HOST, port))
        yield f"nats://{HOST}:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def without_jetstream(tmp_path: Path) -> Iterator[str]:
    with configured(tmp_path, "max_payload: 8MB") as url:
        yield url


async def test_a_broker_that_takes_only_small_messages_is_told_with_its_cure(tmp_path: Path) -> None:
    store = f'jetstream: {{ store_dir: "{tmp_path}" }}'
    with configured(tmp_path, store) as url:
        async with connect(url, "test", NoTelemetry()) as bus:
            with pytest.raises(ProvisionError, match="1048576 bytes at most; set `max_payload: 8MB`"):
                await provision(bus, BOUNDS)
            assert (await bus.api("STREAM.NAMES"))["streams"] is None


async def test_a_broker_without_jetstream_is_told_with_its_cure(
    without_jetstream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libs.bus.provision._API_WAIT_S", 0.5)
    began = time.monotonic()
    async with connect(without_jetstream, "test", NoTelemetry()) as bus:
        with pytest.raises(ProvisionError, match="is `jetstream` in its configuration"):
            await provision(bus, BOUNDS)
    assert time.monotonic() - began < 15


@asynccontextmanager
async def server_of_version(version: str) -> AsyncIterator[str]:
    """Speaks as much of the protocol as connecting needs."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "x", "version": version, "max_payload": 1048576, "headers": True, "proto": 1}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        try:
            while line := await reader.readline():
                if line.startswith(b"PING"):
                    writer.write(b"PONG\r\n")
        finally:
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield f"nats://{HOST}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize("version", ["2.10.22", "2.9.0", "1.4.1"])
async def test_a_broker_that_is_too_old_is_told(version: str) -> None:
    async with server_of_version(version) as url, connect(url, "test", NoTelemetry()) as bus:
        with pytest.raises(ProvisionError) as raised:
            await provision(bus, BOUNDS)
    assert str(raised.value) == f"nats-server {version.rpartition('.')[0]} is too old; use 2.11 or newer"


@pytest.mark.fact("H5")
async def test_what_fails_half_way_leaves_what_was_there_and_nothing_else(empty: Bus) -> None:
    """The stream of work was made by hand, as none that could be changed: it is the one thing left."""
    wanted = [spec.name for spec in streams.specs(BOUNDS)]
    last = wanted[-1]
    spoilt = {"name": last, "subjects": ["by.hand"], "storage": "memory"}
    await empty.api(f"STREAM.CREATE.{last}", spoilt)
    await empty.publish("by.hand", b"kept")
    with pytest.raises(ProvisionError) as raised:
        await provision(empty, BOUNDS)
    others = len(wanted) - 1
    assert f"Of {others} streams made before that {others} are removed again" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert await names(empty) == {last}
    assert [message.data for message in await held(empty, last)] == [b"kept"]
    await empty.api(f"STREAM.DELETE.{last}")
    assert set(await provision(empty, BOUNDS)) == set(wanted), "and the next one finds nothing in its way"


@pytest.mark.fact("H5")
async def test_what_somebody_has_used_meanwhile_is_not_rolled_back(
    empty: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def used(bus: Bus) -> None:
        await bus.publish("j.1", b"a")
        raise ProvisionError("no consumer can be made")

    monkeypatch.setattr("libs.bus.provision._ensure_consumer", used)
    with pytest.raises(ProvisionError) as raised:
        await provision(empty, BOUNDS)
    made = len(streams.specs(BOUNDS))
    assert f"Of {made} streams made before that {made - 1} are removed again" in str(raised.value)
    assert await names(empty) == {streams.JOURNAL}
    assert [message.data for message in await held(empty, streams.JOURNAL)] == [b"a"]


async def test_a_disk_without_room_for_what_is_reserved_is_said_with_the_cure(broker: Broker) -> None:
    async with connect(broker.url, "test", NoTelemetry()) as bus:
        bounds = StreamBounds(max_events=2000, max_snapshots=128, max_inbox_bytes=2**50)
        with pytest.raises(
            ProvisionError, match=r"INBOX: .*reserves 1073741824 MiB \(PERPETUA_MAX_INBOX_BYTES"
        ):
            await provision(bus, bounds)
