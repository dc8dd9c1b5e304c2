"""A NATS subscriber that never leaves: it keeps every event it is sent, with its place in the stream."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import nats
from nats.aio.msg import Msg


class Collector:
    """Subscribes in a thread of its own, and reconnects as often as it must."""

    def __init__(self, url: str) -> None:
        self.events: list[tuple[int, dict[str, Any]]] = []
        self._url = url
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._collect()), daemon=True)

    @property
    def last_sequence(self) -> int:
        return self.events[-1][0] if self.events else 0

    def __enter__(self) -> Collector:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _collect(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        client = await nats.connect(
            self._url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=_ignore
        )

        async def keep(message: Msg) -> None:
            sequence = int((message.headers or {})["Nats-Sequence"])
            self.events.append((sequence, json.loads(message.data)))

        await client.subscribe("perpetua.events.>", cb=keep)
        await client.flush()
        self._ready.set()
        await self._stop.wait()
        await client.close()


async def _ignore(_: Exception) -> None:
    pass
