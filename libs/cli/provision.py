"""`perpetua provision`."""

from __future__ import annotations

import asyncio
import os

from libs.cli.errors import CliError
from libs.settings.cognition import cognition_reader, read_cognition
from libs.settings.process import process_reader, read_process

_WITHIN_S = 30.0


def provision_broker(nats_url: str | None) -> list[str]:
    """Make or update the streams by the settings and return the names of those that changed."""
    from libs.runtime.imports import preload

    preload()
    from libs.contracts.streams import StreamBounds

    cognition = read_cognition(cognition_reader(os.environ))
    process = read_process(process_reader(os.environ), "provision")
    bounds = StreamBounds(
        max_events=cognition.max_events,
        max_snapshots=cognition.max_snapshots,
        max_proposals=process.max_proposals,
        max_captures=process.max_captures,
        replicas=process.replicas,
    )
    return asyncio.run(_provision(nats_url or process.nats_url, bounds))


async def _provision(url: str, bounds: object) -> list[str]:
    from libs.bus.connection import connect
    from libs.bus.errors import BusError
    from libs.bus.provision import provision
    from libs.bus.telemetry import NoTelemetry
    from libs.contracts.streams import StreamBounds

    assert isinstance(bounds, StreamBounds)
    try:
        async with asyncio.timeout(_WITHIN_S), connect(url, "perpetua-provision", NoTelemetry()) as bus:
            return await provision(bus, bounds)
    except TimeoutError:
        raise CliError(f"no broker answers at {url} within {_WITHIN_S:g} s") from None
    except BusError as error:
        raise CliError(str(error)) from None
