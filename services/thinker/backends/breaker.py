"""A circuit breaker: a dead endpoint costs no requests, and is used again soon after it is back.

    closed ──(failures in a row, or one that says all)──► open ──(pause over)──► half open: one probe
      ▲                                                     ▲                        │
      └──────────────────── it was answered ────────────────┼────────────────────────┤
                                    twice the pause ◄───────┴────── it failed ───────┘

Pure: the clock is given. Results of requests that were made before the last transition count for nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

from services.thinker.backends.faults import EndpointError, Weight

FAILURES = 10
"""So many failed requests in a row open the circuit."""

PAUSE_S = 1.0
"""The first pause, in seconds. It doubles with each probe that fails."""

PAUSE_MOST_S = 60.0
HOPELESS_PAUSE_S = 30.0
"""The first pause after a failure that will last until somebody does something, such as a wrong key."""

ASKED_PAUSE_MOST_S = 300.0
"""The longest pause, in seconds, that a server gets by asking for it (`Retry-After`)."""

_JITTER = 0.1


class State(StrEnum):
    """Whether requests are made."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Transition(Struct, frozen=True):
    """The breaker has changed its state."""

    state: State
    because: EndpointError | None
    pause: float
    """Seconds until the next probe; 0 where it is closed or half open."""


class Permit:
    """Leave to make one request. Exactly one of its methods is called, once."""

    def __init__(self, breaker: Breaker, epoch: int) -> None:
        self._breaker = breaker
        self._epoch = epoch

    def succeeded(self) -> None:
        """The request was answered."""
        self._breaker._settle(self._epoch, None)

    def failed(self, error: EndpointError) -> None:
        """It was not, or by a refusal."""
        self._breaker._settle(self._epoch, error)

    def withdrawn(self) -> None:
        """It was given up by this side: that says nothing of the endpoint."""
        self._breaker._withdraw(self._epoch)


class Breaker:
    """Whether an endpoint may be asked now."""

    def __init__(
        self,
        clock: Callable[[], float],
        moved: Callable[[Transition], None] = lambda _: None,
        spread: Callable[[], float] = random.random,
    ) -> None:
        """`moved` is told each transition; `spread` gives numbers from 0 to 1 that keep thinkers apart."""
        self.state = State.CLOSED
        self.because: EndpointError | None = None
        """Why the circuit is not closed."""

        self._clock = clock
        self._moved = moved
        self._spread = spread
        self._epoch = 0
        self._failures = 0
        self._pauses = 0
        self._until = 0.0

    @property
    def probe_is_due(self) -> bool:
        """Whether the pause is over and nobody has begun the probe."""
        return self.state is State.OPEN and self._clock() >= self._until

    @property
    def pause_left(self) -> float:
        """Seconds until the next probe may begin; 0 where it is not open."""
        return max(self._until - self._clock(), 0.0) if self.state is State.OPEN else 0.0

    def admit(self) -> Permit | None:
        """Return leave to make a request; None while the endpoint is left alone."""
        if self.state is State.CLOSED:
            return Permit(self, self._epoch)
        if self.probe_is_due:
            self._move(State.HALF_OPEN, self.because, 0.0)
            return Permit(self, self._epoch)
        return None

    def _settle(self, epoch: int, error: EndpointError | None) -> None:
        if epoch != self._epoch:
            return
        if error is None or (error.weighs is Weight.NONE and self.state is State.HALF_OPEN):
            self._failures = 0
            if self.state is State.HALF_OPEN:
                self._pauses = 0
                self._move(State.CLOSED, None, 0.0)
        elif error.weighs is not Weight.NONE:
            self._failures += 1
            if self._is_dead(error):
                self._open(error)

    def _is_dead(self, error: EndpointError) -> bool:
        return self.state is State.HALF_OPEN or error.weighs is Weight.ALL or self._failures >= FAILURES

    def _withdraw(self, epoch: int) -> None:
        if epoch == self._epoch and self.state is State.HALF_OPEN:
            self._until = self._clock()
            self._move(State.OPEN, self.because, 0.0)

    def _open(self, error: EndpointError) -> None:
        first = HOPELESS_PAUSE_S if error.weighs is Weight.ALL else PAUSE_S
        most = ASKED_PAUSE_MOST_S if error.weighs is Weight.ALL else PAUSE_MOST_S
        pause = min(first * 2**self._pauses, most)
        pause = max(pause, min(error.retry_after or 0.0, ASKED_PAUSE_MOST_S))
        pause *= 1 + _JITTER * self._spread()
        self._pauses = min(self._pauses + 1, 16)
        self._failures = 0
        self._until = self._clock() + pause
        self._move(State.OPEN, error, pause)

    def _move(self, state: State, because: EndpointError | None, pause: float) -> None:
        self._epoch += 1
        self.state, self.because = state, because
        self._moved(Transition(state, because, pause))
