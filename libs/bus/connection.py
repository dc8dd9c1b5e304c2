"""The connection of a process to the broker: it reconnects for ever and says so, or ends the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import msgspec
import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from libs.bus.access import NoTls, client_options
from libs.bus.client import Client
from libs.bus.errors import (
    CONTENT_TOO_LARGE,
    DENIED,
    FORBIDDEN,
    ApiRefused,
    BusError,
    NoAnswer,
    TooLarge,
    is_without_leader,
)
from libs.bus.publisher import Publisher, Receive
from libs.bus.telemetry import BusFault, Telemetry
from libs.concurrency.tasks import beside, tell_failure
from libs.concurrency.waiting import set_within
from libs.contracts.refusals import LimitReached, RefusalBody, Unavailable, rebuilt
from libs.settings.broker import BrokerSettings
from libs.tracing.spans import Tracer, trace_headers

log = structlog.get_logger("bus")

M = TypeVar("M")
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
_FAULTS_REMEMBERED = 256


class Bus:
    """One connection to the broker and the requests that every process makes over it."""

    def __init__(self, client: Client, publisher: Publisher) -> None:
        self.client = client
        self.publisher = publisher
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails when the connection is closed for good, or a receiver has crashed: the process is to end."""

        self.waiting_for: set[str] = set()
        """What this process cannot do because the broker, though connected, does not answer."""

        self.tracer: Tracer | None = None
        """Makes traces, where there are any."""

        self._reconnected: list[Callable[[], None]] = []
        self._connection_lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._denied: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def connected(self) -> bool:
        """Whether the broker can be talked to now."""
        return bool(self.client.is_connected)

    @property
    def connection_number(self) -> int:
        """The number of the present connection, or of the last: another one after every reconnect.

        It is so before anything comes by the new one.
        """
        return int(self.client.stats["reconnects"])

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

    async def subscribe(self, subject: str, receive: Receive, **options: Any) -> Subscription:
        """Have `receive` called for each message, one after the other. An error in it ends the process."""
        return await self.client.subscribe(subject, cb=self.guarded(receive, subject), **options)

    @asynccontextmanager
    async def subscribed(self, subject: str, receive: Receive, **options: Any) -> AsyncIterator[None]:
        """Subscribe as `subscribe` does, while the context is open."""
        subscription = await self.subscribe(subject, receive, **options)
        try:
            yield
        finally:
            if not self.client.is_closed:
                await subscription.unsubscribe()

    @asynccontextmanager
    async def inbox(self) -> AsyncIterator[tuple[str, asyncio.Queue[Msg]]]:
        """Yield a subject for answers, and the queue into which they come while the context is open."""
        subject, arrived = self.client.new_inbox(), asyncio.Queue[Msg]()

        async def receive(message: Msg) -> None:
            arrived.put_nowait(message)

        async with self.subscribed(subject, receive):
            yield subject, arrived

    def guarded(self, receive: Callable[[M], Awaitable[None]], name: str) -> Callable[[M], Awaitable[None]]:
        """Return what receives a message as `receive` does, and whose error ends the process.

        The client library takes such an error for one of the connection, and goes on with the next message.
        """

        async def guard(message: M) -> None:
            try:
                await receive(message)
            except Exception as error:  # noqa: BLE001 - whatever it is, `lost` raises it
                self.crashed(f"receive {name}", error)

        return guard

    def crashed(self, name: str, error: Exception) -> None:
        """Have the process end by an error of something that nobody waits for."""
        tell_failure(name, error)
        if not self.lost.done():
            self.lost.set_exception(error)

    async def publish(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> int:
        """Publish to a stream and return the sequence; see `Publisher.publish`."""
        return await self.publisher.publish(subject, data, headers)

    async def note(self, subject: str, message: msgspec.Struct) -> None:
        """Send a message that nobody acknowledges; it is lost while the broker is away, or if too large."""
        try:
            with suppress(nats.errors.Error):
                await self.client.publish(subject, msgspec.json.encode(message))
        except TooLarge as error:
            log.warning("note_not_sent", subject=subject, error=str(error))

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
        """Return the answer, or None where the connection was lost before it came.

        Raises `NoAnswer`, or `ApiRefused` where the broker does not let us ask, or not that much.
        """
        request = self.client.request(subject, payload, timeout=max(seconds, 0.01))
        async with beside(request, "request") as asking:
            try:
                await self._settled(subject, asking, self._connection_lost)
                return asking.result() if asking.done() else None
            except TooLarge as error:
                raise ApiRefused(subject, CONTENT_TOO_LARGE, error.code, error.description) from error
            except (nats.errors.Error, TimeoutError) as error:
                raise NoAnswer(subject, str(error) or type(error).__name__) from error

    async def _settled(self, subject: str, asking: asyncio.Task[Msg], *others: asyncio.Future[None]) -> None:
        """Return once one of these is done. Raises `ApiRefused` where the broker does not let us ask."""
        either: list[asyncio.Future[Any]] = [asking, *others]
        while not any(future.done() for future in either):
            denied = self._denied
            await asyncio.wait([*either, denied], return_when=asyncio.FIRST_COMPLETED)
            if not asking.done() and denied.done() and denied.result() == subject.lower():
                raise ApiRefused(subject, FORBIDDEN, 0, DENIED)

    async def ask(self, subject: str, request: msgspec.Struct, reply: type[T], *, timeout: float = 2.0) -> T:
        """Ask a peer service and return its reply. It goes on with the running task's trace.

        While nobody listens the question is put again, since nothing has received it. Raises the peer's
        `Refusal`, `LimitReached` where the question is too large, or `Unavailable` when no answer comes
        within `timeout` seconds.
        """
        payload, headers = msgspec.json.encode(request), trace_headers()
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise Unavailable(f"nobody answers on {subject}")
            try:
                asked = self.client.request(subject, payload, timeout=left, headers=headers)
                async with beside(asked, "ask") as asking:
                    await self._settled(subject, asking)
                    message = asking.result()
                    break
            except nats.errors.NoRespondersError:
                await asyncio.sleep(_NO_RESPONDERS_PAUSE_S)
            except ApiRefused as error:
                raise Unavailable(str(error)) from error
            except TooLarge as error:
                raise LimitReached.message("question", error.description) from error
            except (nats.errors.Error, TimeoutError) as error:
                raise Unavailable(f"no answer on {subject} within {timeout:g} s") from error
        if message.headers and ERROR_CODE in message.headers:
            raise rebuilt(msgspec.json.decode(message.data, type=RefusalBody))
        return msgspec.json.decode(message.data, type=reply)

    def _say_lost(self) -> None:
        if not self._connection_lost.done():
            self._connection_lost.set_result(None)
        self._connection_lost = asyncio.get_running_loop().create_future()

    def _say_denied(self, subject: str) -> None:
        self.publisher.deny(subject)
        denied, self._denied = self._denied, asyncio.get_running_loop().create_future()
        denied.set_result(subject)

    def _say_reconnected(self) -> None:
        for callback in list(self._reconnected):
            callback()


@asynccontextmanager
async def connect(
    broker: BrokerSettings | str, name: str, telemetry: Telemetry, *, options: dict[str, Any] | None = None
) -> AsyncIterator[Bus]:
    """Connect to the broker, waiting for it as long as it takes, and yield the bus.

    Raises `BusError` where the broker is not to be trusted as it is.
    """
    settings = broker if isinstance(broker, BrokerSettings) else BrokerSettings(url=broker)
    client = Client(settings.url if settings.wants_tls else None)
    calls = _Callbacks(client, settings, telemetry)
    await client.connect(
        servers=settings.url.split(","),
        name=name,
        error_cb=calls.on_error,
        disconnected_cb=calls.on_disconnect,
        reconnected_cb=calls.on_reconnect,
        closed_cb=calls.on_closed,
        **(_OPTIONS | client_options(settings) | (options or {})),
    )
    publisher = Publisher(client)
    try:
        bus = calls.bus = Bus(client, publisher)
        bus.lost.add_done_callback(lambda future: future.cancelled() or future.exception())
        await publisher.open(bus.guarded, bus.crashed)
        yield bus
    finally:
        if calls.bus is not None:
            calls.bus.lost.cancel()
        await _close(client, publisher)


class _Callbacks:
    """What the client library tells of the connection, said to the log, to metrics and to the bus."""

    def __init__(self, client: Client, settings: BrokerSettings, telemetry: Telemetry) -> None:
        self.bus: Bus | None = None
        self._client = client
        self._settings = settings
        self._url = settings.url
        self._telemetry = telemetry
        self._said: dict[tuple[str, str], float] = {}

    async def on_error(self, error: Exception) -> None:
        if isinstance(error, NoTls):
            self._end(error)
            return
        fault = BusFault.of(error)
        self._telemetry.fault(fault)
        if fault.kind == "denied" and self.bus is not None:
            self.bus._say_denied(fault.subject)
        if not self._is_news(fault):
            return
        if fault.kind == "connection":
            log.warning("waiting_for_broker", url=self._url, error=fault.text)
        elif fault.kind == "refused":
            log.warning(
                "broker_refuses_us",
                url=self._url,
                user=self._settings.user,
                error=fault.text,
                cure="give this process its key: PERPETUA_NATS_NKEY_FILE; `perpetua keys` makes them",
            )
        else:
            log.warning("bus_fault", kind=fault.kind, subject=fault.subject, error=fault.text)

    def _is_news(self, fault: BusFault) -> bool:
        """Whether a fault is to be logged; the same one is so once in five seconds."""
        now, key = asyncio.get_running_loop().time(), (fault.kind, fault.subject)
        if now - self._said.get(key, -_SAY_EVERY_S) < _SAY_EVERY_S:
            return False
        if len(self._said) >= _FAULTS_REMEMBERED:
            self._said.clear()
        self._said[key] = now
        return True

    async def on_disconnect(self) -> None:
        if self.bus is not None and not self._client.is_closed:
            self.bus.publisher.fail_outstanding("the connection was lost")
            self.bus._say_lost()
            log.warning("broker_away", url=self._url)

    async def on_reconnect(self) -> None:
        log.info("broker_back", url=self._url)
        if self.bus is not None:
            self.bus._say_reconnected()

    async def on_closed(self) -> None:
        error = self._client.last_error
        self._end(BusError(f"the connection to the broker was closed: {error or 'by us'}"))

    def _end(self, error: BusError) -> None:
        """Have the process end, where it was connected once."""
        if self.bus is not None and not self.bus.lost.done():
            self.bus.lost.set_exception(error)


async def _close(client: Client, publisher: Publisher) -> None:
    if client.is_connected:
        with suppress(nats.errors.Error, TimeoutError):
            await client.flush(timeout=1)
    await publisher.close()
    with suppress(nats.errors.Error, OSError):  # what could not be sent while the broker is away
        await client.close()
