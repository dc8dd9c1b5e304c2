"""What `perpetua up` does once its processes are started: streams, readiness, thoughts on the screen."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from nats.aio.msg import Msg

from libs.bus.connection import Bus, connect
from libs.bus.errors import BusError
from libs.bus.presence import list_present, take_leave
from libs.bus.provision import ProvisionError, provision
from libs.bus.telemetry import LastFault
from libs.concurrency.tasks import Background
from libs.contracts import subjects
from libs.contracts.presence import PresenceRecord
from libs.contracts.streams import StreamBounds
from libs.runtime import logs
from libs.settings.broker import BrokerSettings
from libs.supervisor import broker
from libs.supervisor.child import Child, Gone
from libs.supervisor.disk import Disk
from libs.supervisor.errors import UpError, broker_died
from libs.supervisor.screen import Screen
from libs.supervisor.stats import stats

log = structlog.get_logger("up")

_BROKER_WITHIN_S = 15.0
_OWN_BROKER_WITHIN_S = 30.0
"""On a busy disk the embedded broker takes a while to begin."""

_BROKER_LOOK_S = 0.2
_READY_LOOK_S = 0.05
_READY_SAY_S = 10.0
_LIVENESS_LOOK_S = 1.0
_DISK_LOOK_S = 2.0
_SUM_UP_WITHIN_S = 0.2


@dataclass(frozen=True)
class Brought:
    """What was brought up."""

    gateway_url: str
    nats: BrokerSettings
    children: list[Child]
    gone: asyncio.Queue[Gone]
    bounds: StreamBounds
    streams: Path
    broker_log: Path


class Live:
    """The supervisor's own view over the broker."""

    def __init__(self, up: Brought, screen: Screen) -> None:
        self._up = up
        self._screen = screen

    async def run(self) -> None:
        """Make the streams, wait until everybody is ready, then show thoughts as they come."""
        logs.configure(
            log_format="console", level="error", service="up", instance="up", stream=self._screen.errors
        )
        async with AsyncExitStack() as stack, Background() as tasks:
            starting = tasks.create_task(self._until_broker_dies(), name="broker-dies")
            bus = await self._connected(stack)
            starting.cancel()
            try:
                await provision(bus, self._up.bounds)
            except ProvisionError as error:
                raise UpError(str(error)) from error
            self._screen.addresses(self._up.gateway_url, self._up.nats.url)
            tasks.create_task(self._show_thoughts(bus), name="thoughts")
            tasks.create_task(self._watch_disk(), name="disk")
            tasks.create_task(self._take_leave(bus), name="gone")
            await self._until_ready(bus)
            try:
                await self._watch_broker(bus)
            finally:
                await self._sum_up(bus)

    async def _connected(self, stack: AsyncExitStack) -> Bus:
        faults = LastFault()
        embedded = any(child.service == "nats" for child in self._up.children)
        try:
            async with asyncio.timeout(_OWN_BROKER_WITHIN_S if embedded else _BROKER_WITHIN_S):
                connecting = connect(self._up.nats, "perpetua-up", faults)
                return await stack.enter_async_context(connecting)
        except TimeoutError:
            raise UpError(faults.why(self._up.nats.url)) from None
        except BusError as error:
            raise UpError(str(error)) from error

    async def _until_broker_dies(self) -> None:
        """Raise where the embedded broker ends again as soon as it is started."""
        while not any(c.service == "nats" and c.restarts > 1 for c in self._up.children):  # noqa: ASYNC110
            await asyncio.sleep(_BROKER_LOOK_S)
        raise broker_died(broker.log_tail(self._up.broker_log))

    async def _until_ready(self, bus: Bus) -> None:
        clock = asyncio.get_running_loop().time
        say_at = clock() + _READY_SAY_S
        while True:
            there = await _present(bus)
            missing = self._missing(there)
            if not missing:
                given_up = [child.instance for child in self._up.children if child.misconfigured]
                return self._screen.ready(there, given_up)
            if clock() > say_at:
                say_at = clock() + _READY_SAY_S
                self._screen.waiting_for(missing)
            await asyncio.sleep(_READY_LOOK_S)

    def _missing(self, there: list[PresenceRecord]) -> list[str]:
        """Return the processes that are neither ready nor given up."""
        ready = {(record.instance, record.pid) for record in there if record.ready}
        wanted = [child.record() for child in self._up.children if child.service != "nats"]
        given_up = {child.instance for child in self._up.children if child.misconfigured}
        return [r.instance for r in wanted if (r.instance, r.pid) not in ready and r.instance not in given_up]

    async def _watch_broker(self, bus: Bus) -> None:
        """Say when the broker goes and when it is back; the services wait for it by themselves."""
        away = False
        while True:
            if bus.connected == away:
                away = not away
                self._screen.broker_away(self._up.nats.url) if away else self._screen.broker_back()
            await asyncio.sleep(_LIVENESS_LOOK_S)

    async def _sum_up(self, bus: Bus) -> None:
        """Show what the run has done, as far as those say who are still there [H16]."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SUM_UP_WITHIN_S):
                self._screen.run(stats(await _present(bus)))

    async def _take_leave(self, bus: Bus) -> None:
        """Have others take over at once what a process did that has ended and is not there again soon."""
        while True:
            gone = await self._up.gone.get()
            try:
                await take_leave(bus, gone.service, gone.instance, gone.ended)
            except BusError as error:  # it is missed after a while all the same
                log.debug("leave_not_taken", instance=gone.instance, error=str(error))

    async def _watch_disk(self) -> None:
        """Say when the embedded broker's disk is full; once there is room, start the broker again."""
        nats = next((child for child in self._up.children if child.service == "nats"), None)
        if nats is None:
            return
        disk = Disk(self._up.streams, self._up.broker_log)
        said = False
        while True:
            await asyncio.sleep(_DISK_LOOK_S)
            disk.look()
            if disk.full and not said:
                said = True
                self._screen.disk_full(self._up.streams)
            if disk.full and disk.has_room:
                disk.full = said = False
                self._screen.disk_has_room()
                nats.restart()

    async def _show_thoughts(self, bus: Bus) -> None:
        """Print a line per event as it is stored; without a reader the broker need not send them."""
        if self._screen.quiet:
            return

        async def show(message: Msg) -> None:
            self._screen.thought(message.data)

        await bus.subscribe(subjects.EVENTS, show)
        await asyncio.Event().wait()


async def _present(bus: Bus) -> list[PresenceRecord]:
    try:
        return await list_present(bus)
    except BusError:
        return []
