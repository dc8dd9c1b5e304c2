"""The broker that a command talks to, and with which key."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from libs.cli.errors import CliError
from libs.contracts.permissions import ADMIN
from libs.settings.broker import BrokerSettings
from libs.settings.process import process_reader, read_process
from libs.supervisor.data_dir import DataDir
from libs.supervisor.keys import seed_file

if TYPE_CHECKING:
    from libs.bus.connection import Bus

NATS_URL = "PERPETUA_NATS_URL"


def broker_of(folder: DataDir, nats_url: str | None) -> BrokerSettings:
    """Return the broker that is named, else that of the `up` in the folder, else that of PERPETUA_NATS_URL.

    The embedded broker of that `up` is shown the key of its folder, any other what the settings say. Raises
    `CliError` where there is none of them, and `SettingError`.
    """
    run = folder.read()
    url = nats_url or (run.nats_url if run is not None else None)
    own = seed_file(folder.keys, ADMIN)
    if url is not None and run is not None and run.embeds(url) and own.is_file():
        return BrokerSettings(user=ADMIN, url=url, nkey_file=str(own))
    configured = read_process(process_reader(os.environ), "cli").nats
    if url is not None:
        return msgspec.structs.replace(configured, url=url)
    if not os.environ.get(NATS_URL):
        raise CliError(
            f"no `perpetua up` runs in {folder.path}. Start one, name its folder with --data-dir, or a "
            f"broker with --nats-url or {NATS_URL}"
        )
    return configured


def prepare() -> None:
    """Load the client library; its log is to say nothing, so that a command prints what comes of it alone."""
    from libs.runtime.imports import preload

    preload()
    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@asynccontextmanager
async def connected(broker: BrokerSettings, name: str, within: float) -> AsyncIterator[Bus]:
    """Connect within so many seconds and yield the bus, for as long as it takes.

    Raises `CliError`, also for the errors of the bus.
    """
    from libs.bus.connection import connect
    from libs.bus.errors import BusError
    from libs.bus.telemetry import LastFault

    faults = LastFault()
    try:
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(within):
                    bus = await stack.enter_async_context(connect(broker, name, faults))
            except TimeoutError:
                raise CliError(faults.why(broker.url)) from None
            yield bus
    except BusError as error:
        raise CliError(str(error)) from None
