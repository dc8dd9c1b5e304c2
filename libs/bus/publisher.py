"""JetStream publishes over one ack inbox, each with a deadline, together bounded.

nats-py's own asynchronous publish never resolves on a server error and then blocks at its limit; this one
resolves every publish, and is about twice as fast (docs/benchmarks.md).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
import structlog
from nats.aio.msg import Msg

from libs.bus.client import Client
from libs.bus.errors import DENIED, FORBIDDEN, UNREADABLE, NoStream, OutcomeUnknown, refused
from libs.concurrency.tasks import ended

log = structlog.get_logger("publisher")

EXPECTED_LAST_SEQUENCE = "Nats-Expected-Last-Sequence"
EXPECTED_LAST_SUBJECT_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
TTL = "Nats-TTL"

_END = b"\r\n"
_NO_RESPONDERS = "503"
_SWEEP_S = 0.25


Receive = Callable[[Msg], Awaitable[None]]
"""Is called for each message of a subscription, one after the other."""


class _AckError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class Ack(msgspec.Struct):
    """The broker's acknowledgement."""

    stream: str = ""
    seq: int = 0
    error: _AckError | None = None


_decode_ack = msgspec.json.Decoder(Ack).decode


class Publisher:
    """Publishes to streams and resolves each publish with its sequence or its error.

    At most `max_outstanding` publishes wait for their acks; a further `send` waits for room. A publish that
    is not acknowledged within `deadline` seconds, or whose connection is lost, fails with `OutcomeUnknown`.
    """

    def __init__(self, client: Client, *, max_outstanding: int = 4096, deadline: float = 5.0) -> None:
        self._client = client
        self._deadline = deadline
        self._room = asyncio.Semaphore(max_outstanding)
        self._waiting: OrderedDict[str, tuple[float, str, asyncio.Future[int]]] = OrderedDict()
        self._inbox = client.new_inbox()
        self._token_at = len(self._inbox) + 1
        self._count = 0
        self._sweeper: asyncio.Task[None] | None = None
        self._something = asyncio.Event()
        """Set once something waits for its ack."""

    @property
    def outstanding(self) -> int:
        """How many publishes wait for their ack now."""
        return len(self._waiting)

    async def open(
        self, guarded: Callable[[Receive, str], Receive], ends: Callable[[str, Exception], None]
    ) -> None:
        """Subscribe to the ack inbox. `ends` is told what keeps publishes from ever ending."""
        await self._client.subscribe(
            f"{self._inbox}.*",
            cb=guarded(self._on_ack, "acks"),
            pending_msgs_limit=-1,
            pending_bytes_limit=-1,
        )

        def over(sweeper: asyncio.Task[None]) -> None:
            if not sweeper.cancelled() and isinstance(error := sweeper.exception(), Exception):
                ends(sweeper.get_name(), error)

        self._sweeper = asyncio.create_task(self._sweep(), name="publisher-deadlines")
        self._sweeper.add_done_callback(over)

    async def close(self) -> None:
        """Fail what is outstanding and stop."""
        if self._sweeper is not None:
            await ended(self._sweeper)
        self.fail_outstanding("the connection is closing")

    async def send(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None
    ) -> asyncio.Future[int]:
        """Publish and return a future of the sequence. Publishes leave in the order of the calls.

        Raises `OutcomeUnknown` while the connection is lost: repeats would only fill the client's buffer, and
        `TooLarge` for what the broker would end the connection over.
        """
        self._raise_if_away(subject)
        await self._room.acquire()
        try:
            self._raise_if_away(subject)  # what was lost with the connection may have made the room
        except OutcomeUnknown:
            self._room.release()
            raise
        loop = asyncio.get_running_loop()
        self._count += 1
        token = str(self._count)
        future: asyncio.Future[int] = loop.create_future()
        self._waiting[token] = (loop.time() + self._deadline, subject, future)
        self._something.set()
        try:
            await self._client.publish(subject, data, reply=f"{self._inbox}.{token}", headers=headers)
        except BaseException:
            self._resolve(token, None)
            raise
        return future

    async def post(self, messages: Sequence[tuple[str, bytes, str]]) -> None:
        """Publish subjects, bodies and header lines without acks: a later message's ack is proof of them.

        They are handed over as one piece of the protocol, by the client's own way out: publishing them one
        by one takes it many times as long. Neither subjects nor headers may come from a stranger as they are:
        nothing of them is checked here. Raises `OutcomeUnknown` while the connection is lost, and `TooLarge`.
        """
        if not messages:
            return
        self._raise_if_away(messages[0][0])
        pieces: list[bytes] = []
        for subject, data, lines in messages:  # HPUB operations of the client protocol, without a reply
            head = f"NATS/1.0\r\n{lines}\r\n".encode()
            self._client.refuse_too_large(subject, len(head) + len(data))
            pieces += (
                b"HPUB %b %d %d\r\n" % (subject.encode(), len(head), len(head) + len(data)),
                head,
                data,
                _END,
            )
        await self._client._send_command(b"".join(pieces))

    def _raise_if_away(self, subject: str) -> None:
        if not self._client.is_connected:
            raise OutcomeUnknown(subject, "the broker is away")

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str] | None = None) -> int:
        """Publish and return the sequence under which the message is stored.

        Raises `OutcomeUnknown`, `WrongLastSequence`, `SubjectFull`, `TooLarge` or `PublishRefused`.
        """
        future = await self.send(subject, data, headers)
        return await future

    def fail_outstanding(self, reason: str) -> None:
        """Give up on every outstanding ack: the connection that would have brought it is gone."""
        for token, (_, subject, _future) in list(self._waiting.items()):
            self._resolve(token, OutcomeUnknown(subject, reason))

    def deny(self, subject: str) -> None:
        """Fail what was published to a subject, in small letters, that the broker does not allow us."""
        for token, (_, published, _future) in list(self._waiting.items()):
            if published.lower() == subject:
                self._resolve(token, refused(published, FORBIDDEN, DENIED))

    async def _on_ack(self, message: Msg) -> None:
        token = message.subject[self._token_at :]
        if token not in self._waiting:
            return None
        subject = self._waiting[token][1]
        if message.headers and message.headers.get("Status") == _NO_RESPONDERS:
            return self._resolve(token, NoStream(subject))
        try:
            ack = _decode_ack(message.data)
        except UNREADABLE as error:  # the broker's own comes, too, or the deadline
            log.warning("ack_not_read", subject=subject, error=str(error))
            return None
        if ack.error is not None:
            return self._resolve(token, refused(subject, ack.error.err_code, ack.error.description))
        return self._resolve(token, ack.seq)

    def _resolve(self, token: str, outcome: int | Exception | None) -> None:
        entry = self._waiting.pop(token, None)
        if entry is None:
            return
        self._room.release()
        future = entry[2]
        if future.done():
            return
        if isinstance(outcome, int):
            future.set_result(outcome)
        elif outcome is None:
            future.cancel()
        else:
            future.set_exception(outcome)

    def _until_first_deadline(self, now: float) -> float:
        """Return the seconds until the oldest publish may be late; a whole deadline where none waits."""
        first = next(iter(self._waiting.values()), None)
        return max(first[0] - now, _SWEEP_S) if first is not None else self._deadline

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._something.wait()
            await asyncio.sleep(self._until_first_deadline(loop.time()))
            if not self._waiting:
                self._something.clear()
            now = loop.time()
            while self._waiting:
                token, (deadline, subject, _) = next(iter(self._waiting.items()))
                if deadline > now:
                    break
                self._resolve(token, OutcomeUnknown(subject, f"no ack within {self._deadline:g} s"))


def line(name: str, value: str) -> str:
    """Return a header as `post` takes it."""
    return f"{name}: {value}\r\n"


def parse_lines(lines: str) -> dict[str, str]:
    """Return the headers of such lines, as `send` takes them."""
    pairs = (one.partition(": ") for one in lines.splitlines())
    return {name: value for name, _, value in pairs}


def expecting(sequence: int) -> dict[str, str]:
    """Header that stores a message only if `sequence` is the last of its subject (0: none is stored)."""
    return {EXPECTED_LAST_SUBJECT_SEQUENCE: str(sequence)}
