"""How each fault is done, and undone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from libs.bus.connection import Bus
from libs.bus.errors import BusError
from tests.chaos.brokers import Node
from tests.chaos.field import Field
from tests.chaos.plan import Fault, Kind
from tests.chaos.twice import Twice

_DELAY_S = 0.3


class Faults:
    """Does what a plan says. Faults that last go on beside those that follow."""

    def __init__(self, field: Field, bus: Bus, twice: Twice) -> None:
        self.asked_to_end: list[str] = []
        """Services that were killed or told to end."""

        self._field = field
        self._bus = bus
        self._twice = twice
        self._lasting: set[asyncio.Task[None]] = set()
        self._do: dict[Kind, Callable[[Fault], Awaitable[bool]]] = {
            Kind.KILL: self._kill,
            Kind.STOP: self._stop,
            Kind.RESTART: self._restart,
            Kind.BROKER_KILL: self._broker_kill,
            Kind.BROKER_STOP: self._broker_stop,
            Kind.LEADER_KILL: self._leader_kill,
            Kind.CUT: self._cut,
            Kind.DELAY: self._delay,
            Kind.STALL: self._stall,
            Kind.DISK_FULL: self._disk_full,
            Kind.CLOCK: self._clock,
            Kind.TWICE: self._deliver_twice,
        }

    async def do(self, fault: Fault) -> bool:
        """Begin a fault; false where its victim is not there, or a quorum would be lost."""
        return await self._do[fault.kind](fault)

    async def over(self) -> None:
        """Return once the faults that last have ended."""
        await asyncio.gather(*self._lasting)

    def _later(self, seconds: float, undo: Callable[[], Awaitable[None] | None]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            done = undo()
            if done is not None:
                await done

        task = asyncio.create_task(wait())
        self._lasting.add(task)
        task.add_done_callback(self._lasting.discard)

    async def _kill(self, fault: Fault) -> bool:
        done = self._field.send(fault.target, signal.SIGKILL)
        self.asked_to_end += [fault.target] * done
        return done

    async def _restart(self, fault: Fault) -> bool:
        done = self._field.send(fault.target, signal.SIGTERM)
        self.asked_to_end += [fault.target] * done
        return done

    async def _stop(self, fault: Fault) -> bool:
        pid = self._field.pid(fault.target)
        if pid is None or not self._field.send(fault.target, signal.SIGSTOP):
            return False

        def go_on() -> None:
            if self._field.pid(fault.target) == pid:
                self._field.send(fault.target, signal.SIGCONT)

        self._later(fault.seconds, go_on)
        return True

    async def _broker_kill(self, fault: Fault) -> bool:
        return self._fell(self._field.brokers.named(fault.target), fault.seconds)

    async def _leader_kill(self, fault: Fault) -> bool:
        try:
            info = await self._bus.api("STREAM.INFO.JOURNAL", timeout=2.0)
        except BusError:
            return False
        return self._fell(self._field.brokers.named(info["cluster"]["leader"]), fault.seconds)

    def _fell(self, node: Node, seconds: float) -> bool:
        if self._quorum_hangs_on(node):
            return False
        node.kill()
        self._later(seconds, node.start)
        return True

    async def _broker_stop(self, fault: Fault) -> bool:
        node = self._field.brokers.named(fault.target)
        if self._quorum_hangs_on(node) or not node.lives:
            return False
        node.pause()
        self._later(fault.seconds, node.resume)
        return True

    def _quorum_hangs_on(self, node: Node) -> bool:
        """Whether another broker is away already: one of three may be. A single broker has no quorum."""
        others = [n for n in self._field.brokers.nodes if n is not node]
        return not node.lives or node.stopped or any(not n.lives or n.stopped for n in others)

    async def _cut(self, fault: Fault) -> bool:
        for proxy in self._field.proxies[fault.target]:
            proxy.cut()
        return True

    async def _delay(self, fault: Fault) -> bool:
        proxies = self._field.proxies[fault.target]
        for proxy in proxies:
            proxy.delay = _DELAY_S

        def hurry() -> None:
            for proxy in proxies:
                proxy.delay = 0.0

        self._later(fault.seconds, hurry)
        return True

    async def _stall(self, fault: Fault) -> bool:
        proxies = self._field.proxies[fault.target]
        for proxy in proxies:
            proxy.stall(True)

        def let_go() -> None:
            for proxy in proxies:
                proxy.stall(False)

        self._later(fault.seconds, let_go)
        return True

    async def _disk_full(self, fault: Fault) -> bool:
        brokers = self._field.brokers
        if not brokers.small or not all(node.lives and not node.stopped for node in brokers.nodes):
            return False
        await asyncio.to_thread(brokers.fill)

        async def free() -> None:
            brokers.free()
            for node in brokers.nodes:  # a stream that could not be written stays closed until then
                await asyncio.to_thread(node.kill, signal.SIGTERM)
                await node.start()

        self._later(fault.seconds, free)
        return True

    async def _clock(self, fault: Fault) -> bool:
        self._field.set_clock(fault.target, fault.seconds)
        return True

    async def _deliver_twice(self, fault: Fault) -> bool:
        if not self._bus.connected:
            return False
        await self._twice.repeat()
        return True
