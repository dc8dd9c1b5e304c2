"""What swarms remember while the storm blows: each snapshot is folded in once, of its own swarm [A18]."""

from __future__ import annotations

from collections import defaultdict

from tests.chaos.collector import Event
from tests.chaos.lives import life_of
from tests.chaos.model import numbers_in


class Memory:
    """The roll-ups of the stream, and the snapshots that may go into them; `findings` is what must not be."""

    def __init__(self) -> None:
        self.findings: list[str] = []
        self.roll_ups = 0
        self.by_model = 0
        self._shared: defaultdict[str, set[int]] = defaultdict(set)
        """By swarm, the numbers of the snapshots that its personas share."""

        self._newest: dict[str, int] = {}
        """By swarm, where among its snapshots the last roll-up ends."""

        self._places: dict[int, int] = {}
        """In which order snapshots came."""

    @property
    def left_out(self) -> int:
        """How many shared snapshots stand in no roll-up: newer ones came, or whoever made it was killed."""
        return sum(len(numbers) for numbers in self._shared.values())

    def note(self, event: Event) -> None:
        """Note an event."""
        if event.is_roll_up:
            self._rolled_up(event)
        elif event.event_type == "snapshot_compressed":
            self._snapshot(event)

    def _snapshot(self, event: Event) -> None:
        if life_of(event.persona)["policy"].get("share_memory"):
            for number in numbers_in(event.payload["thinking"]):
                self._places[number] = len(self._places)
                self._shared[event.swarm_id or ""].add(number)

    def _rolled_up(self, event: Event) -> None:
        swarm_id, payload = event.swarm_id or "", event.payload
        self.roll_ups += 1
        self.by_model += payload["source"] == "model"
        told = numbers_in(payload["thinking"])
        what = f"{event.id}, a roll-up of {swarm_id} by {payload['source']},"
        shared = self._shared[swarm_id]
        if again := [number for number in told if number in self._places and number not in shared]:
            self.findings.append(f"{what} folds in what another did, or another swarm's: {again} of {told}")
        if unknown := [number for number in told if number not in self._places]:
            self.findings.append(f"{what} folds in what nobody shares: {unknown} of {told}")
        if len(told) > payload["cold_snapshot_count"]:
            self.findings.append(f"{what} folds in {told}, and counts {payload['cold_snapshot_count']}")
        places = [self._places[number] for number in told if number in shared]
        if places and (places != sorted(places) or places[0] < self._newest.get(swarm_id, 0)):
            self.findings.append(f"{what} folds snapshots in out of their order: {told}")
        self._newest[swarm_id] = max([self._newest.get(swarm_id, 0), *places])
        shared.difference_update(told)
