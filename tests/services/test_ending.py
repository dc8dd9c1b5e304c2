"""A process that is told to end while the broker is away ends well, and in the time that it is given."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from libs.bus.connection import Bus
from libs.bus.presence import list_present
from tests.support.broker import Broker
from tests.support.eventually import eventually

SERVICES = {"registry", "scheduler", "thinker", "compressor", "gateway"}
DRAIN_S = 3
AND_S = 2 + 8
"""What cancelling takes at most, and how long a busy machine may stall; a resolver is waited for longer."""


async def test_each_service_ends_well_while_the_broker_is_away(
    bus: Bus, broker: Broker, tmp_path: Path
) -> None:
    processes = {service: started(service, broker.url, tmp_path) for service in SERVICES}
    try:

        async def ready() -> bool:
            return {record.service for record in await list_present(bus) if record.ready} == SERVICES

        await eventually(ready, 90, "five services")
        broker.kill()
        await eventually(lambda: not bus.connected)
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        loop = asyncio.get_running_loop()
        waits = [loop.run_in_executor(None, p.wait, DRAIN_S + AND_S) for p in processes.values()]
        statuses = dict(zip(processes, await asyncio.gather(*waits), strict=True))
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    said = {service: (tmp_path / service).read_text()[-2000:] for service in SERVICES}
    assert statuses == dict.fromkeys(SERVICES, 0), said


def started(service: str, url: str, logs: Path) -> subprocess.Popen[bytes]:
    env = os.environ | {
        "PERPETUA_NATS_URL": url,
        "PERPETUA_GATEWAY_PORT": "0",
        "PERPETUA_DRAIN_MS": str(DRAIN_S * 1000),
        "CODETETHER_COGNITION_THINKER_ENABLED": "false",
    }
    command = [sys.executable, "-m", f"services.{service}"]
    with (logs / service).open("wb") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
