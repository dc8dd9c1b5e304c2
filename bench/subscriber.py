"""A subscriber of the public events, in a thread of its own, while something is measured."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import nats
from nats.aio.msg import Msg

from libs.contracts import subjects


class Subscriber:
    """Is told of each event, and when it came in seconds of the wall clock, while the context is open."""

    def __init__(self, nats_url: str) -> None:
        self._nats_url = nats_url
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()), daemon=True)

    def note(self, event: dict[str, Any], at: float) -> None:
        """Take note of an event."""

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _listen(self) -> None:
        client = await nats.connect(self._nats_url)
        await client.subscribe(subjects.EVENTS, cb=self._receive)
        await asyncio.to_thread(self._over.wait)
        await client.close()

    async def _receive(self, message: Msg) -> None:
        at = time.time()
        self.note(json.loads(message.data), at)
