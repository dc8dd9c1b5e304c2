"""What is sent to a swarm on a day: a quiet night, busy hours, bursts, urgent messages, posts, a storm."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from heapq import merge
from typing import NamedTuple

from bench.simulation.options import Options

NIGHT = (22.0, 6.0)
"""From and until this hour hardly anybody says anything."""

_STORM_AT, _OUTAGE_AT = 14 / 24, 18 / 24
_ROLES = ("critic", "scout", "historian", "architect", "editor")
_TALK = (
    "the build is red again", "who has the plan", "numbers of the last week", "a crack in the harbour wall",
    "history of this decision", "the draft needs an editor", "structure of the new module", "weather is fine",
)  # fmt: skip


class Sent(NamedTuple):
    """Something that is sent: to a persona, or to a swarm."""

    at: float
    """Seconds since the beginning."""

    to: int
    """Number of the persona, or of the swarm."""

    post: bool = False
    priority: float | None = None
    source: str = ""
    content: str = ""
    mentions: bool = False


def role_of(number: int) -> str:
    """Return a persona's role; its charter names it, so some messages are relevant to it."""
    return _ROLES[number % len(_ROLES)]


def hour_of(at: float, options: Options) -> float:
    """Return the hour of the day, 0 to 24; a shorter simulation has a shorter day."""
    return 24 * (at / options.seconds % 1.0)


def is_night(at: float, options: Options) -> bool:
    """Whether it is night."""
    hour = hour_of(at, options)
    return hour >= NIGHT[0] or hour < NIGHT[1]


def outage(options: Options) -> tuple[float, float]:
    """Return from when until when the endpoint is away, in seconds."""
    begin = _OUTAGE_AT * options.seconds
    return begin, begin + 60 * options.outage_minutes


def storm(options: Options) -> tuple[float, float]:
    """Return from when until when the storm lasts, in seconds."""
    begin = _STORM_AT * options.seconds
    return begin, begin + 60 * options.storm_minutes


def day(options: Options) -> Iterator[Sent]:
    """Yield everything that is sent, in order of time."""
    parts = (_talk, _urgent, _posts, _bursts, _storm)
    return merge(*(part(options, random.Random(f"{options.seed}/{part.__name__}")) for part in parts))


def _talk(options: Options, rng: random.Random) -> Iterator[Sent]:
    """Yield ordinary messages; half of them go to a twentieth of the personas."""
    per_second = options.items_a_day * options.personas / 86_400
    for at in _poisson(per_second * 2, options.seconds, rng):
        if rng.random() < _rhythm(hour_of(at, options)) / 2:
            to = _somebody(options, rng, lively=True)
            if rng.random() < 0.5:
                few = max(options.personas // 20, 1)
                to = options.personas - 1 - rng.randrange(few)
            given = round(rng.uniform(0.05, 0.75), 2) if rng.random() < 0.5 else None
            room = f"room-{rng.randrange(20)}"
            yield Sent(at, to, False, given, room, rng.choice(_TALK), rng.random() < 0.05)


def _urgent(options: Options, rng: random.Random) -> Iterator[Sent]:
    for at in _poisson(options.urgent_a_minute / 60, options.seconds, rng):
        to = _somebody(options, rng, lively=is_night(at, options))
        yield Sent(at, to, False, 0.9, "pager", "it burns", False)


def _posts(options: Options, rng: random.Random) -> Iterator[Sent]:
    swarms = max(options.personas // options.swarm, 1)
    for at in _poisson(options.posts_an_hour / 3600, options.seconds, rng):
        quiet = min(options.quiet_swarms, swarms - 1)
        if not is_night(at, options):
            yield Sent(at, rng.randrange(quiet, swarms), True, None, "board", rng.choice(_TALK), False)


def _bursts(options: Options, rng: random.Random) -> Iterator[Sent]:
    count = max(round(options.bursts * options.hours / 24), 1) if options.bursts else 0
    times = sorted(rng.uniform(0.3, 0.9) * options.seconds for _ in range(count))
    some: list[Sent] = []
    for begin in times:
        to = _somebody(options, rng, lively=True)
        given = rng.choice([None, 0.3, 0.6])
        some += [
            Sent(begin + rng.uniform(0, 60), to, False, given, "crowd", rng.choice(_TALK), False)
            for _ in range(80)
        ]
    yield from sorted(some)


def _storm(options: Options, rng: random.Random) -> Iterator[Sent]:
    begin, end = storm(options)
    for after in _poisson(2 * options.capacity, end - begin, rng):
        to = rng.randrange(options.personas)
        yield Sent(begin + after, to, False, round(rng.uniform(0.05, 0.75), 2), "storm", "thunder", False)


def _somebody(options: Options, rng: random.Random, lively: bool) -> int:
    quiet = options.quiet_swarms * options.swarm if lively else 0
    return rng.randrange(min(quiet, options.personas - 1), options.personas)


def _rhythm(hour: float) -> float:
    """Return how much is said at an hour, 0 to 2, 1 on average: peaks before and after noon."""
    peaks = math.exp(-(((hour - 10.5) / 2.5) ** 2)) + math.exp(-(((hour - 16) / 3.0) ** 2))
    return min(0.04 + 2.3 * peaks, 2.0)


def _poisson(per_second: float, seconds: float, rng: random.Random) -> Iterator[float]:
    at = 0.0
    while per_second > 0 and (at := at + rng.expovariate(per_second)) < seconds:
        yield at
