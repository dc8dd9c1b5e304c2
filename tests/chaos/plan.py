"""What a storm does, drawn from its seed before it begins: the same seed gives the same storm. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

SERVICES = (
    "registry-1", "registry-2",
    "scheduler-1", "scheduler-2",
    "thinker-1", "thinker-2",
    "compressor-1", "compressor-2",
    "gateway-1",
)  # fmt: skip
"""Every process of the storm's swarm, two of each role but the gateway."""

CLOCKED = ("registry-2", "scheduler-2", "thinker-2", "compressor-2")
"""Processes that live under a clock of the storm's own."""


class Kind(StrEnum):
    """What can happen."""

    KILL = "kill"
    """kill -9 of a service."""

    STOP = "stop"
    """SIGSTOP of a service, and SIGCONT after `seconds`."""

    RESTART = "restart"
    """SIGTERM of a service: it drains and is started again."""

    BROKER_KILL = "broker kill"
    """kill -9 of a broker, which is away for `seconds`."""

    BROKER_STOP = "broker stop"
    """SIGSTOP of a broker for `seconds`."""

    LEADER_KILL = "leader kill"
    """kill -9 of the broker that leads the journal's stream, which is away for `seconds`."""

    CUT = "cut"
    """A service's connection to the broker is reset."""

    DELAY = "delay"
    """What a service sends and gets travels up to 0.3 s longer, for `seconds`."""

    STALL = "stall"
    """Nothing a service sends or gets arrives for `seconds`; then all of it does."""

    DISK_FULL = "disk full"
    """The disk of the broker's store is full for `seconds`; then the broker is started again."""

    CLOCK = "clock"
    """A service's clock jumps by `seconds`."""

    TWICE = "twice"
    """Work, grants, results and notes of the last seconds are delivered once more."""


@dataclass(frozen=True)
class Fault:
    """One blow."""

    kind: Kind
    target: str
    seconds: float
    pause: float
    """Seconds until the next one."""


_SINGLE = {
    Kind.KILL: 30, Kind.STOP: 14, Kind.RESTART: 14, Kind.BROKER_KILL: 8, Kind.BROKER_STOP: 3, Kind.CUT: 10,
    Kind.DELAY: 6, Kind.STALL: 5, Kind.DISK_FULL: 1, Kind.CLOCK: 5, Kind.TWICE: 6,
}  # fmt: skip
_CLUSTER = _SINGLE | {Kind.DISK_FULL: 0, Kind.BROKER_KILL: 6, Kind.LEADER_KILL: 8}

_LENGTHS = {
    Kind.STOP: (0.5, 20.0),
    Kind.BROKER_KILL: (0.0, 4.0),
    Kind.BROKER_STOP: (0.5, 8.0),
    Kind.LEADER_KILL: (0.0, 4.0),
    Kind.DELAY: (1.0, 8.0),
    Kind.STALL: (0.5, 12.0),
    Kind.DISK_FULL: (3.0, 6.0),
}
_JUMPS = (-86_400.0, -3_600.0, -30.0, -3.0, 3.0, 30.0, 3_600.0, 86_400.0)


def plan(seed: int, faults: int, brokers: int, *, clocks: bool, disk: bool) -> list[Fault]:
    """Return a storm: its first blows are one of each kind, in random order, so that none is left out."""
    rng = random.Random(seed)
    weights = dict(_CLUSTER if brokers > 1 else _SINGLE)
    if not clocks:
        weights[Kind.CLOCK] = 0
    if not disk:
        weights[Kind.DISK_FULL] = 0
    possible = [kind for kind, weight in weights.items() if weight]
    first = rng.sample(possible, len(possible))[:faults]
    rest = rng.choices(list(weights), list(weights.values()), k=faults - len(first))
    kinds = first + rest if faults <= 2 * len(first) else rng.sample(first + rest, faults)
    return [_fault(rng, kind, brokers) for kind in kinds]


def _fault(rng: random.Random, kind: Kind, brokers: int) -> Fault:
    pause = rng.uniform(0.1, 2.0)
    if kind in (Kind.BROKER_KILL, Kind.BROKER_STOP):
        target = f"nats-{rng.randint(1, brokers)}"
    elif kind in (Kind.LEADER_KILL, Kind.DISK_FULL, Kind.TWICE):
        target = "nats-1"
    else:
        target = rng.choice(CLOCKED if kind is Kind.CLOCK else SERVICES)
    seconds = rng.choice(_JUMPS) if kind is Kind.CLOCK else rng.uniform(*_LENGTHS.get(kind, (0.0, 0.0)))
    return Fault(kind, target, round(seconds, 2), round(pause, 2))
