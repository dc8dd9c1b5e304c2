"""A broker that knows the users of `perpetua keys`, and connections as each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from libs.bus.connection import Bus, connect
from libs.settings.broker import BrokerSettings
from libs.supervisor.keys import authorization, make_seeds, seed_file
from tests.bus.support import Noted
from tests.support.broker import Broker


class GuardedBroker(Broker):
    """A real broker with a user for each service, and anonymous readers of events."""

    def __init__(self) -> None:
        import tempfile

        self.keys = Path(tempfile.mkdtemp(prefix="perpetua-keys-"))
        super().__init__(authorization(make_seeds(self.keys), public_events=True))

    def settings(self, user: str) -> BrokerSettings:
        return BrokerSettings(user=user, url=self.url, nkey_file=str(seed_file(self.keys, user)))

    @asynccontextmanager
    async def connected(self, user: str) -> AsyncIterator[tuple[Bus, Noted]]:
        """A connection as a user, and the faults of it."""
        noted = Noted()
        async with connect(self.settings(user), "test", noted) as bus:
            yield bus, noted
