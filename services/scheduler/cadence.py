"""How long a persona waits until it looks again [A10, A11]. Pure; waits are in seconds."""

from __future__ import annotations

from libs.contracts.limits import INTERVAL_FLOOR_MS
from services.scheduler.inner_state import Mood

OF_INTERVAL = {Mood.OVERWHELMED: 2.0, Mood.TIRED: 1.4, Mood.ACTIVE: 1.0, Mood.IDLE: 0.6}
"""The wait in units of the loop's interval."""

FLOOR_S = INTERVAL_FLOOR_MS / 1000
SHORT_OF_CREDITS = 0.5
"""Share of the credits below which the wait doubles."""

FAILURES_MOST = 16
"""What failures multiply the wait by at most."""

IDLE_MOST = 32
"""What idle cycles multiply the wait by at most."""


def wait(
    mood: Mood, interval_s: float, compute_budget: float, failures: int, idle_cycles: int, load: float
) -> float:
    """Return a persona's wait in seconds, never under 0.1.

    `compute_budget` is the share of its credits that is left, 0 to 1; `failures` and `idle_cycles` count
    what has come one after the other; `load`, at least 1, stretches everybody's waits [A13].
    """
    factor = OF_INTERVAL[mood] * doubled(failures, FAILURES_MOST) * doubled(idle_cycles, IDLE_MOST)
    if compute_budget < SHORT_OF_CREDITS:
        factor *= 2
    return max(interval_s * factor * max(load, 1.0), FLOOR_S)


def doubled(times: int, most: int) -> int:
    """Return 1 doubled so many times, but no more than `most`."""
    return most if times >= most.bit_length() else min(1 << times, most)
