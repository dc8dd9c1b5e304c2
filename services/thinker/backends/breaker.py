"""A circuit breaker: a dead endpoint costs no requests, and is used again soon after it is back.

    closed ──────(it is dead)──────► open ──(pause over)──► half open: one probe
     │  ▲                             ▲ ▲                        │
     │  └────── it was answered ──────┼─┼────────────────────────┤
     ▼                                │ └── it failed: a pause ──┘
    held: `Retry-After` ──(it is dead)┘     twice as long
      (pause over: closed)

Dead is an endpoint by one failure that says all, by failures in a row, or by their share of the last
requests. Pure: the clock is given. Results of requests that were made before the circuit opened, or before
its probe, count for nothing.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from math import inf

from msgspec import Struct

from services.thinker.backends.faults import EndpointError, Weight

FAILURES = 10
"""So many failed requests in a row open the circuit."""

WINDOW = 40
FAILED_SHARE = 0.75
"""So do this share of the last so many requests: fewer failures cost less than a pause would."""

PAUSE_S = 1.0
"""The first pause, in seconds. It doubles with each probe that fails."""

PAUSE_MOST_S = 60.0
HOPELESS_PAUSE_S = 30.0
"""The first pause after a failure that will last until somebody does something, such as a wrong key."""

ASKED_PAUSE_MOST_S = 300.0
"""The longest pause, in seconds, that a server gets by asking for it (`Retry-After`)."""

PATIENCE_S = 5.0
"""A hold that is over within so many seconds is waited for; in a longer one thoughts are fallbacks."""

_JITTER = 0.1


class State(StrEnum):
    """Whether requests are made."""

    CLOSED = "closed"
    HELD = "held"
    """The server asked for a pause: nobody has to try first whether it is back."""

    OPEN = "open"
    HALF_OPEN = "half_open"


class Transition(Struct, frozen=True):
    """The breaker has changed its state."""

    state: State
    because: EndpointError | None
    pause: float
    """Seconds until a request may be made; 0 where it is closed or half open."""


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
        self._failed: deque[bool] = deque(maxlen=WINDOW)
        self._pauses = 0
        self._until = 0.0

    @property
    def pause_left(self) -> float:
        """Seconds until the pause is over, of a hold or before the next probe; 0 where there is none."""
        is_paused = self.state in (State.HELD, State.OPEN)
        return max(self._until - self._clock(), 0.0) if is_paused else 0.0

    @property
    def wait(self) -> float:
        """Seconds until a request may be made; endless where that depends on a probe."""
        if self.state in (State.CLOSED, State.HELD) or self._probe_is_due:
            return self.pause_left
        return inf

    @property
    def _probe_is_due(self) -> bool:
        """Whether the pause is over and nobody has begun the probe."""
        return self.state is State.OPEN and not self.pause_left

    def admit(self) -> Permit | None:
        """Return leave to make a request; None while the endpoint is left alone."""
        if self.wait:
            return None
        if self.state is State.HELD:
            self._move(State.CLOSED, None, 0.0)
        elif self.state is State.OPEN:
            self._turn(State.HALF_OPEN, self.because, 0.0)
        return Permit(self, self._epoch)

    def _settle(self, epoch: int, error: EndpointError | None) -> None:
        if epoch != self._epoch:
            return
        weighs = Weight.NONE if error is None else error.weighs
        if self.state is State.HALF_OPEN:
            if error is None or weighs is Weight.NONE:
                self._pauses = 0
                self._turn(State.CLOSED, None, 0.0)
            else:
                self._open(error)
        elif error is None:
            self._failures = 0
            self._failed.append(False)
        elif weighs is not Weight.NONE:
            self._failures += 1
            self._failed.append(True)
            if self._is_dead(error):
                self._open(error)
            elif error.retry_after:
                self._hold(error, min(error.retry_after, ASKED_PAUSE_MOST_S))

    def _is_dead(self, error: EndpointError) -> bool:
        share = sum(self._failed) / WINDOW
        return error.weighs is Weight.ALL or self._failures >= FAILURES or share >= FAILED_SHARE

    def _withdraw(self, epoch: int) -> None:
        if epoch == self._epoch and self.state is State.HALF_OPEN:
            self._until = self._clock()
            self._turn(State.OPEN, self.because, 0.0)

    def _hold(self, error: EndpointError, pause: float) -> None:
        if pause > self.pause_left:
            self._until = self._clock() + pause
            self._move(State.HELD, error, pause)

    def _open(self, error: EndpointError) -> None:
        first = HOPELESS_PAUSE_S if error.weighs is Weight.ALL else PAUSE_S
        most = ASKED_PAUSE_MOST_S if error.weighs is Weight.ALL else PAUSE_MOST_S
        pause = min(first * 2**self._pauses, most)
        pause = max(pause, min(error.retry_after or 0.0, ASKED_PAUSE_MOST_S))
        pause = max(pause * (1 + _JITTER * self._spread()), self.pause_left)
        self._pauses = min(self._pauses + 1, 16)
        self._until = self._clock() + pause
        self._turn(State.OPEN, error, pause)

    def _turn(self, state: State, because: EndpointError | None, pause: float) -> None:
        """Move on, and forget the requests that were made before."""
        self._epoch += 1
        self._failures = 0
        self._failed.clear()
        self._move(state, because, pause)

    def _move(self, state: State, because: EndpointError | None, pause: float) -> None:
        self.state, self.because = state, because
        self._moved(Transition(state, because, pause))
