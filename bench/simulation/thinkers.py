"""Simulated thinkers: so many thoughts side by side, each as long as a distribution says."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from msgspec import structs

from bench.simulation.clock import wall
from bench.simulation.day import outage
from bench.simulation.doubles import MemoryOwner
from bench.simulation.options import Options
from libs.cognition.answer import Answer
from libs.cognition.compose import compose
from libs.contracts.thoughts import Usage
from libs.contracts.work import GrantRequest
from services.scheduler.dispatches import Dispatch
from services.scheduler.due import Due
from services.scheduler.owner import ShardOwner
from services.thinker.backends.breaker import Breaker
from services.thinker.backends.faults import EndpointError, Outcome

_RESPONDS = 0.6
_REPEATS = 0.05
_LATENCY_SIGMA, _TOKENS_SIGMA = 0.5, 0.4
_ATTEMPT_S = 1.0
"""A request to an endpoint that is away fails after so long; a thought is asked for twice."""

_NOT_ASKED_S = 0.002
_AWAY = "connection refused"


class Thinkers:
    """Takes chunks as they come, asks for their grant, and thinks what is granted as there is room.

    Grants, answers, what becomes of items, and when a dead endpoint is left alone are the system's own.
    """

    def __init__(self, options: Options, run_now: Callable[[], int | None]) -> None:
        self.granted: Callable[[float], None]
        """Is told how long a chunk has waited."""

        self.owners: dict[int, MemoryOwner] = {}
        self.asked = 0
        """Thoughts for which the model was asked, and answered."""

        self.busy_s = 0.0
        self._options = options
        self._run_now = run_now
        self._rng = random.Random(f"{options.seed}/thinkers")
        self._loop = asyncio.get_running_loop()
        self._breaker = Breaker(self._loop.time, spread=self._rng.random)
        self._away = outage(options)
        self._free = options.slots
        self._chunks: deque[tuple[ShardOwner, Dispatch]] = deque()
        self._pending: deque[tuple[ShardOwner, Dispatch, Due]] = deque()
        self._sequence = 0

    @property
    def waiting(self) -> int:
        """Chunks that nobody has taken yet."""
        return len(self._chunks)

    def queue(self, owner: ShardOwner, dispatch: Dispatch) -> None:
        """Put a chunk behind those that wait."""
        self._sequence += 1
        dispatch.sequence = self._sequence
        self._chunks.append((owner, dispatch))
        self._pump()

    def _pump(self) -> None:
        while self._free:
            if self._pending:
                self._begin(*self._pending.popleft())
            elif self._chunks:
                self._take(*self._chunks.popleft())
            else:
                return

    def _take(self, owner: ShardOwner, dispatch: Dispatch) -> None:
        assert dispatch.sequence is not None
        request = GrantRequest(
            chunk=dispatch.chunk.id,
            shard=owner.shard,
            sequence=dispatch.sequence,
            deliveries=1,
            thinker="simulated",
        )
        granted = owner.dispatches.grant(request, self._run_now(), self._loop.time(), -math.inf)
        if granted.waited is not None:
            self.granted(granted.waited)
        self._pending.extend((owner, dispatch, due) for due in granted.dues.values())

    def _begin(self, owner: ShardOwner, dispatch: Dispatch, due: Due) -> None:
        if not owner.dispatches.in_flight(due.persona_id):
            return  # reaped meanwhile
        self._free -= 1
        took, answer = self._think(due)
        self.busy_s += took
        self._loop.call_later(took, self._end, owner.shard, dispatch, due, answer)

    def _end(self, shard: int, dispatch: Dispatch, due: Due, answer: Answer) -> None:
        item = structs.replace(due.bare, inbox=due.inbox, recent=list(due.recent))
        thought = compose(item, dispatch.chunk.run, answer, datetime.fromtimestamp(wall(), UTC))
        self.owners[shard].commit([thought])
        self._free += 1
        self._pump()

    def _think(self, due: Due) -> tuple[float, Answer]:
        """Return for how many seconds a thought is thought, and what comes of it."""
        permit, now = self._breaker.admit(), self._loop.time()
        if permit is None:
            return _NOT_ASKED_S, Answer(error=_AWAY, asked=False)
        if self._away[0] <= now < self._away[1]:
            permit.failed(EndpointError(_AWAY, Outcome.UNREACHABLE, "start it"))
            took = 2 * _ATTEMPT_S
            return took, Answer(error=_AWAY, outage=True, latency_ms=int(1000 * took), cpu_ms=0)
        permit.succeeded()
        self.asked += 1
        took = self._options.latency_s * self._spread(_LATENCY_SIGMA)
        told = sum(len(one.content) for one in due.inbox) // 3
        usage = Usage(
            prompt_tokens=self._options.prompt_tokens + told,
            completion_tokens=max(int(self._options.completion_tokens * self._spread(_TOKENS_SIGMA)), 1),
        )
        return took, Answer(text=self._text(due), model="m", usage=usage, latency_ms=int(1000 * took))

    def _text(self, due: Due) -> str:
        """Return an answer: a decision where items are taken up; a few thoughts repeat themselves."""
        said = "as before" if self._rng.random() < _REPEATS else " ".join(self._words())
        if not due.inbox:
            return said
        responds = self._rng.random() < _RESPONDS
        return f'{{"will_respond": {"true" if responds else "false"}, "response": "{said}"}}'

    def _words(self) -> list[str]:
        return [f"{self._rng.getrandbits(24):x}" for _ in range(6)]

    def _spread(self, sigma: float) -> float:
        """Return a log-normal factor whose mean is 1."""
        return math.exp(self._rng.gauss(-sigma * sigma / 2, sigma))
