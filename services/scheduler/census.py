"""How a scheduler's personas fare, as distributions over all of them [A6].

Read by the thread that answers Prometheus, while the loop goes on: nothing is changed here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from time import monotonic, time

from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from libs.contracts.personas import PersonaStatus
from libs.roster.state import Roster
from services.scheduler.inner_state import Mood
from services.scheduler.ledger import PersonaLedger
from services.scheduler.owner import ShardOwner

ENERGY = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
DEPTH = (0, 1, 3, 10, 30, 50, 100, 300, 1000)
COUNTED_FOR_S = 10.0
"""Scrapes within so many seconds get the same answer: to count 100 000 personas takes a good part of one."""


class _Histogram:
    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def metric(self, name: str, documentation: str) -> Metric:
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        buckets = list(zip(names, accumulate(self._counts), strict=True))
        return GaugeHistogramMetricFamily(name, documentation, buckets=buckets, gsum_value=self._sum)


class Census(Collector):
    """Counts the living personas of the shards that this process owns."""

    def __init__(
        self,
        roster: Roster,
        owners: Mapping[int, ShardOwner],
        wanted: Callable[[], Iterable[int]],
        ticking: Callable[[], bool],
        wall: Callable[[], float] = time,
    ) -> None:
        self._roster = roster
        self._owners = owners
        self._wanted = wanted
        self._ticking = ticking
        self._wall = wall
        self._counted: list[Metric] = []
        self._counted_at = float("-inf")

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names are known only with their values."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return energy, inbox depth, moods and pauses, counted lately."""
        if monotonic() - self._counted_at >= COUNTED_FOR_S:
            self._counted, self._counted_at = self._count(self._wall()), monotonic()
        return self._counted

    def _count(self, now: float) -> list[Metric]:
        energy, depth, moods, paused = _Histogram(ENERGY), _Histogram(DEPTH), Counter[Mood](), 0
        for entry in self._living():
            load = len(entry.inbox or ()) if entry is not None else 0
            life = entry.life if entry is not None else None
            depth.add(load)
            energy.add(life.state.energy_at(now) if life is not None else 1.0)
            moods[life.state.mood(load, now) if life is not None else Mood.IDLE] += 1
            paused += life is not None and life.pause is not None
        in_mood = GaugeMetricFamily("perpetua_personas_in_mood", "Living personas by mood.", labels=["mood"])
        for mood in Mood:
            in_mood.add_metric([mood.value], moods[mood])
        return [
            energy.metric("perpetua_persona_energy", "Energy of living personas, 0 to 1."),
            depth.metric("perpetua_inbox_depth", "Items in the inboxes of living personas."),
            in_mood,
            GaugeMetricFamily("perpetua_personas_paused", "Personas without credits.", value=paused),
            *self._ticked(),
        ]

    def _ticked(self) -> list[Metric]:
        """Count who is active and ticked, and who is not, by what is in the way [H4]."""
        live = set(self._owners)
        owned, others = self._active(live), self._active(set(self._wanted()) - live)
        ticks = self._ticking()
        ticked = GaugeMetricFamily(
            "perpetua_personas_ticked", "Active personas that are ticked.", value=owned if ticks else 0
        )
        not_ticked = GaugeMetricFamily(
            "perpetua_personas_not_ticked",
            "Active personas that are not ticked: the loop does not run, or their shard is not taken over.",
            labels=["reason"],
        )
        not_ticked.add_metric(["loop"], 0 if ticks else owned)
        not_ticked.add_metric(["shard"], others)
        return [ticked, not_ticked]

    def _active(self, shards: Iterable[int]) -> int:
        return sum(
            self._roster.personas[persona_id].status is PersonaStatus.ACTIVE
            for shard in shards
            for persona_id in list(self._roster.in_shard(shard))
        )

    def _living(self) -> Iterator[PersonaLedger | None]:
        for shard, owner in list(self._owners.items()):
            for persona_id in list(self._roster.in_shard(shard)):
                if not self._roster.is_reaped(persona_id):
                    yield owner.ledger.known(persona_id)
