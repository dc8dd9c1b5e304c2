"""What the tests of who may do what stand on."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest_asyncio

from libs.bus.provision import provision
from libs.contracts.permissions import ADMIN
from libs.contracts.streams import StreamBounds
from tests.security.support import GuardedBroker


@pytest_asyncio.fixture
async def guarded() -> AsyncIterator[GuardedBroker]:
    """A broker with users, its streams made by the one who may."""
    broker = GuardedBroker()
    try:
        async with broker.connected(ADMIN) as (bus, noted):
            await provision(bus, StreamBounds(max_events=2000, max_snapshots=128))
            assert noted.faults == []
        yield broker
    finally:
        broker.close()
        shutil.rmtree(broker.keys, ignore_errors=True)
