"""A TCP proxy that a process reaches the broker through, and that cuts, delays or stalls its connection."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import cast

_RESUME_BELOW = 1 << 20
_PAUSE_ABOVE = 4 << 20


class Proxy:
    """Listens on a loopback port; all its connections share one fate."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.delay = 0.0
        """Seconds that everything takes longer, either way."""

        self.stalled = False
        self._pipes: set[_Pipe] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def open(self) -> Proxy:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Pipe(self), "127.0.0.1", 0)
        return self

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()

    def cut(self) -> None:
        """Reset every connection, whatever is under way."""
        for pipe in list(self._pipes):
            pipe.reset()

    def stall(self, stalled: bool) -> None:
        """Hold back, or let go, everything that is sent."""
        self.stalled = stalled
        if not stalled:
            for pipe in list(self._pipes):
                pipe.let_go()

    def enter(self, pipe: _Pipe) -> None:
        self._pipes.add(pipe)

    def leave(self, pipe: _Pipe) -> None:
        self._pipes.discard(pipe)


class _Pipe(asyncio.Protocol):
    """One end of a connection; `other` is the end towards the broker, or back."""

    def __init__(self, proxy: Proxy, other: _Pipe | None = None) -> None:
        self._proxy = proxy
        self._other = other
        self._transport: asyncio.Transport | None = None
        self._late: deque[bytes] = deque()
        self._due = 0.0
        """When the last of what is late goes on, by the loop's clock."""

        self._held: list[bytes] = []
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_PAUSE_ABOVE, low=_RESUME_BELOW)
        self._proxy.enter(self)
        if self._other is None:
            asyncio.get_running_loop().create_task(self._reach_broker())
        else:
            self.let_go()

    async def _reach_broker(self) -> None:
        other = _Pipe(self._proxy, self)
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: other, "127.0.0.1", self._proxy.target_port
            )
        except OSError:
            return self.reset()
        self._other = other
        if self._closing:
            return other.reset()
        return self.let_go()

    def data_received(self, data: bytes) -> None:
        """Pass on what came, in its order: a delay that ends lets nothing overtake what is late."""
        loop = asyncio.get_running_loop()
        self._due = max(self._due, loop.time() + self._proxy.delay)
        self._late.append(data)
        if self._proxy.delay or len(self._late) > 1:
            loop.call_at(self._due, self._pass_on)
        else:
            self._pass_on()

    def _pass_on(self) -> None:
        self._held.append(self._late.popleft())
        self.let_go()

    def let_go(self) -> None:
        """Send what is held back to the other end, unless the proxy stalls."""
        other = self._other
        if self._proxy.stalled or other is None or other._transport is None or other._closing:
            return
        held, self._held = self._held, []
        for data in held:
            other._transport.write(data)

    def pause_writing(self) -> None:
        if (transport := self._source()) is not None:
            transport.pause_reading()

    def resume_writing(self) -> None:
        if (transport := self._source()) is not None:
            transport.resume_reading()

    def _source(self) -> asyncio.Transport | None:
        """Where what is written here comes from, unless that is closed."""
        transport = self._other._transport if self._other is not None else None
        return None if transport is None or transport.is_closing() else transport

    def connection_lost(self, error: Exception | None) -> None:
        self._proxy.leave(self)
        self._closing = True
        if self._other is not None:
            self._other.reset()

    def reset(self) -> None:
        self._closing = True
        if self._transport is not None and not self._transport.is_closing():
            with suppress(OSError):
                self._transport.abort()
