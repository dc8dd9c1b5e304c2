"""The connection of a process to the broker: it reconnects for ever and says so, or ends the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import msgspec
import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.bus.errors import ApiRefused, BusError, NoAnswer, is_without_leader
from libs.bus.publisher import Publisher
from libs.bus.telemetry import BusFault, Telemetry
from libs.concurrency.waiting import set_within
from libs.contracts.refusals import RefusalBody, Unavailable, rebuilt

log = structlog.get_logger("bus")

T = TypeVar("T")

ERROR_CODE = "Nats-Service-Error-Code"
ERROR_TEXT = "Nats-Service-Error"

_API_TIMEOUT_S = 5.0
_OPTIONS: dict[str, Any] = {
    "max_reconnect_attempts": -1,
    "reconnect_time_wait": 0.25,
    "ping_interval": 10,
    "connect_timeout": 2,
    "pending_size": 32 * 1024 * 1024,
    "skip_subject_validation": True,
}
_SAY_EVERY_S = 5.0
_NO_RESPONDERS_PAUSE_S = 0.1


class Bus:
    """One connection to the broker and the requests that every process makes over it."""

    def __init__(self, client: Client, publisher: Publisher) -> None:
        self.client = client
        self.publisher = publisher
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails when the connection is closed for good: the process is to end."""

        self.waiting_for: set[str] = set()
        """What this process cannot do because the broker, though connected, does not answer."""

        self._reconnected: list[Callable[[], None]] = []
        self._connection_lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def connected(self) -> bool:
        """Whether the broker can be talked to now."""
        return bool(self.client.is_connected)

    @property
    def trouble(self) -> str | None:
        """What is wrong between this process and the broker now, in a sentence."""
        if not self.connected:
            return "the broker is away"
        if self.waiting_for:
            return f"the broker does not answer: {', '.join(sorted(self.waiting_for))}"
        return None

    @contextmanager
    def on_reconnect(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call `callback` after every reconnect while the context is open."""
        self._reconnected.append(callback)
        try:
            yield
        finally:
            self._reconnected.remove(callback)

    async def publish(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> int:
        """Publish to a stream and return the sequence; see `Publisher.publish`."""
        return await self.publisher.publish(subject, data, headers)

    async def note(self, subject: str, message: msgspec.Struct) -> None:
        """Send a message that nobody acknowledges; it is lost while the broker is away."""
        with suppress(nats.errors.Error):
            await self.client.publish(subject, msgspec.json.encode(message))

    async def api(self, subject: str, body: object = None, timeout: float = _API_TIMEOUT_S) -> dict[str, Any]:
        """Make a request of the JetStream API, `subject` without `$JS.API.`.

        A connection that is lost meanwhile costs no more time than it is lost: the request is made again.
        Raises `ApiRefused` with the broker's words, or `NoAnswer` when nobody answers in time.
        """
        payload = b"" if body is None else msgspec.json.encode(body)
        name, clock = f"$JS.API.{subject}", asyncio.get_running_loop().time
        deadline = clock() + timeout
        message: Msg | None = None
        while message is None:
            if not await self.connected_within(deadline - clock()):
                raise NoAnswer(name, "the broker is away")
            message = await self._request(name, payload, deadline - clock())
        answer: dict[str, Any] = msgspec.json.decode(message.data)
        if "error" in answer:
            said = answer["error"]
            if is_without_leader(said.get("err_code", 0)):
                raise NoAnswer(name, said.get("description", ""))
            raise ApiRefused(
                subject, said.get("code", 500), said.get("err_code", 0), said.get("description", "")
            )
        return answer

    async def connected_within(self, seconds: float) -> bool:
        """Wait for the connection, where it is lost; whether it is there."""
        if not self.connected and seconds > 0:
            reconnected = asyncio.Event()
            with self.on_reconnect(reconnected.set):
                await set_within(reconnected, seconds)
        return self.connected

    async def _request(self, subject: str, payload: bytes, seconds: float) -> Msg | None:
        """Return the answer, or None where the connection was lost before it came. Raises `NoAnswer`."""
        asking = asyncio.ensure_future(self.client.request(subject, payload, timeout=max(seconds, 0.01)))
        try:
            either: list[asyncio.Future[Any]] = [asking, self._connection_lost]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                return None
            return asking.result()
        except (nats.errors.Error, TimeoutError) as error:
            raise NoAnswer(subject, str(error) or type(error).__name__) from error
        finally:
            asking.cancel()

    async def ask(self, subject: str, request: msgspec.Struct, reply: type[T], *, timeout: float = 2.0) -> T:
        """Ask a peer service and return its reply.

        While nobody listens the question is put again, since nothing has received it. Raises the peer's
        `Refusal`, or `Unavailable` when no answer comes within `timeout` seconds.
        """
        payload = msgspec.json.encode(request)
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise Unavailable(f"nobody answers on {subject}")
            try:
                message = await self.client.request(subject, payload, timeout=left)
                break
            except nats.errors.NoRespondersError:
                await asyncio.sleep(_NO_RESPONDERS_PAUSE_S)
            except (nats.errors.Error, TimeoutError) as error:
                raise Unavailable(f"no answer on {subject} within {timeout:g} s") from error
        if message.headers and ERROR_CODE in message.headers:
            raise rebuilt(msgspec.json.decode(message.data, type=RefusalBody))
        return msgspec.json.decode(message.data, type=reply)

    def _say_lost(self) -> None:
        if not self._connection_lost.done():
            self._connection_lost.set_result(None)
        self._connection_lost = asyncio.get_running_loop().create_future()

    def _say_reconnected(self) -> None:
        for callback in list(self._reconnected):
            callback()


@asynccontextmanager
async def connect(
    url: str, name: str, telemetry: Telemetry, *, options: dict[str, Any] | None = None
) -> AsyncIterator[Bus]:
    """Connect to the broker, waiting for it as long as it takes, and yield the bus."""
    client = Client()
    publisher: Publisher | None = None
    bus: Bus | None = None
    said = 0.0

    async def on_error(error: Exception) -> None:
        nonlocal said
        now = asyncio.get_running_loop().time()
        fault = BusFault.of(error)
        telemetry.fault(fault)
        if fault.kind != "connection":
            log.warning("bus_fault", kind=fault.kind, subject=fault.subject, error=fault.text)
        elif now - said > _SAY_EVERY_S:
            said = now
            log.warning("waiting_for_broker", url=url, error=fault.text)

    async def on_disconnect() -> None:
        if publisher is not None and not client.is_closed:
            publisher.fail_outstanding("the connection was lost")
            if bus is not None:
                bus._say_lost()
            log.warning("broker_away", url=url)

    async def on_reconnect() -> None:
        log.info("broker_back", url=url)
        if bus is not None:
            bus._say_reconnected()

    async def on_closed() -> None:
        if bus is not None and not bus.lost.done():
            error = client.last_error
            bus.lost.set_exception(BusError(f"the connection to the broker was closed: {error or 'by us'}"))

    await _connect(client, url, name, options or {}, on_error, on_disconnect, on_reconnect, on_closed)
    publisher = Publisher(client)
    await publisher.open()
    bus = Bus(client, publisher)
    bus.lost.add_done_callback(lambda future: future.cancelled() or future.exception())
    try:
        yield bus
    finally:
        bus.lost.cancel()
        await _close(client, publisher)


Callback = Callable[[], Awaitable[None]]


async def _connect(
    client: Client,
    url: str,
    name: str,
    options: dict[str, Any],
    on_error: Callable[[Exception], Awaitable[None]],
    on_disconnect: Callback,
    on_reconnect: Callback,
    on_closed: Callback,
) -> None:
    await client.connect(
        servers=url.split(","),
        name=name,
        error_cb=on_error,
        disconnected_cb=on_disconnect,
        reconnected_cb=on_reconnect,
        closed_cb=on_closed,
        **(_OPTIONS | options),
    )


async def _close(client: Client, publisher: Publisher) -> None:
    if client.is_connected:
        with suppress(nats.errors.Error, TimeoutError):
            await client.flush(timeout=1)
    await publisher.close()
    with suppress(nats.errors.Error, OSError):  # what could not be sent while the broker is away
        await client.close()
