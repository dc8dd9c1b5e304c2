"""`perpetua provision`."""

from __future__ import annotations

import asyncio
import os

from libs.cli.broker import broker_of, connected
from libs.contracts.streams import StreamBounds
from libs.settings.broker import BrokerSettings
from libs.settings.cognition import CognitionSettings, cognition_reader, read_cognition
from libs.settings.process import ProcessSettings, process_reader, read_process
from libs.supervisor.data_dir import DataDir

_WITHIN_S = 30.0


def provision_broker(folder: DataDir, nats_url: str | None) -> list[str]:
    """Make or update the streams by the settings and return the names of those that changed."""
    from libs.runtime.imports import preload

    preload()
    quiet("provision")
    return asyncio.run(_provision(broker_of(folder, nats_url), wanted_bounds()))


def quiet(command: str) -> None:
    """Log errors alone, to standard error: what a command has to say it prints."""
    from libs.runtime import logs

    logs.configure(log_format="auto", level="error", service=command, instance=command)


def wanted_bounds() -> StreamBounds:
    """Return what the settings say about the streams. Raises `SettingError`."""
    cognition = read_cognition(cognition_reader(os.environ))
    return bounds_of(cognition, read_process(process_reader(os.environ), "provision"))


def bounds_of(cognition: CognitionSettings, process: ProcessSettings) -> StreamBounds:
    """Return what settings that have been read say about the streams."""
    return StreamBounds(
        max_events=cognition.max_events,
        max_snapshots=cognition.max_snapshots,
        max_proposals=process.max_proposals,
        max_captures=process.max_captures,
        max_inbox_bytes=process.max_inbox_bytes,
        replicas=process.replicas,
        sync_always=process.sync_always,
    )


async def _provision(broker: BrokerSettings, bounds: StreamBounds) -> list[str]:
    from libs.bus.provision import provision

    async with connected(broker, "perpetua-provision", _WITHIN_S) as bus:
        return await provision(bus, bounds)
