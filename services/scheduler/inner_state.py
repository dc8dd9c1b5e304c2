"""A persona's inner state [A6–A9]. Pure: times are wall times in seconds, energy and attention 0 to 1.

Nothing runs here while a persona rests. What is kept is the state at its last thought; every reading adds
the rest since then anew, so rest is elapsed time counted once, whoever reads when.
"""

from __future__ import annotations

from enum import StrEnum

WORK_MS = 10_000.0
"""Milliseconds of thinking about one item that cost all energy [A7]."""

MUSING_MS = 40_000.0
"""The same for a thought that takes no item up."""

REST_S = 20.0
"""Seconds of rest that give all energy back; attention comes back twice as fast."""

FLOOR = 0.1
"""The least energy: from nothing a persona that thinks again and again would never recover."""

TIRED_BELOW = 0.3
FATIGUE = 0.9
"""Factor of attention with each thought that ends tired."""

WINDOW_S = 60.0
"""Responses of so many seconds count [A6]. A state further ahead of the clock than this is not believed."""

OVERWHELMED_ABOVE = 50
"""Items in the inbox."""

ACTIVE_ABOVE = 0.5
"""Energy of a persona that has lately responded."""


class Mood(StrEnum):
    """What decides a persona's cadence and which items it takes up."""

    OVERWHELMED = "overwhelmed"
    TIRED = "tired"
    ACTIVE = "active"
    IDLE = "idle"


class InnerState:
    """Energy, attention and what was lately done. A new persona is rested and has done nothing.

    Where the clock was set back by more than a minute, the persona counts as rested.
    """

    __slots__ = ("attention", "energy", "last_activity", "responses")

    def __init__(
        self,
        energy: float = 1.0,
        attention: float = 1.0,
        last_activity: float = 0.0,
        responses: tuple[float, ...] = (),
    ) -> None:
        self.energy = energy
        """As it was when the last thought ended."""

        self.attention = attention
        self.last_activity = last_activity
        """When that was; 0 before the first thought."""

        self.responses = responses
        """When it responded, oldest first; some may lie more than 60 s back."""

    def thought(self, at: float, took_ms: float, items: int, responded: bool) -> None:
        """Fold a thought that ended at `at`, took so long, and took so many items up.

        The time it took is no rest. Thoughts are folded in the order of their numbers; one whose end lies
        before the last one's, by clocks that differ, costs its energy and gives no rest.
        """
        rest = (at - self.last_activity - took_ms * 0.001) / REST_S
        energy, attention = self.energy, self.attention
        if rest > 0.0:
            energy += rest
            attention += rest + rest
        elif at < self.last_activity - WINDOW_S:
            self.last_activity, self.responses = at, ()
            energy = attention = 1.0
        if energy > 1.0:
            energy = 1.0
        if attention > 1.0:
            attention = 1.0
        energy -= took_ms * items / WORK_MS if items else took_ms / MUSING_MS
        if energy < FLOOR:
            energy = FLOOR
        if energy < TIRED_BELOW:
            attention *= FATIGUE
        self.energy, self.attention = energy, attention
        if at > self.last_activity:
            self.last_activity = at
        if responded:
            self.responses = (*(then for then in self.responses if then > at - WINDOW_S), at)

    def energy_at(self, now: float) -> float:
        """Return the energy with the rest since the last thought."""
        return min(self.energy + self._rest(now), 1.0)

    def attention_at(self, now: float) -> float:
        """Return the attention with the rest since the last thought."""
        return min(self.attention + 2.0 * self._rest(now), 1.0)

    def response_count(self, now: float) -> int:
        """Return how many responses the last 60 s have seen."""
        return sum(then > now - WINDOW_S for then in self.responses) if self.responses else 0

    def mood(self, inbox_load: int, now: float) -> Mood:
        """Return the mood, the first that holds, worked out here and now [A8]."""
        if inbox_load > OVERWHELMED_ABOVE:
            return Mood.OVERWHELMED
        energy = self.energy_at(now)
        if energy < TIRED_BELOW:
            return Mood.TIRED
        if energy > ACTIVE_ABOVE and self.response_count(now) > 0:
            return Mood.ACTIVE
        return Mood.IDLE

    def dump(self) -> tuple[float, ...]:
        """Return it as numbers: energy, attention, last activity, then the responses' times."""
        return (self.energy, self.attention, self.last_activity, *self.responses)

    @classmethod
    def load(cls, numbers: tuple[float, ...]) -> InnerState:
        """Return the state that was dumped."""
        return cls(numbers[0], numbers[1], numbers[2], tuple(numbers[3:]))

    def _rest(self, now: float) -> float:
        elapsed = now - self.last_activity
        if elapsed >= 0.0:
            return elapsed / REST_S
        return 0.0 if elapsed >= -WINDOW_S else 1.0


ALWAYS_ABOVE = 80
"""Effective priority, in hundredths, that every mood engages with [A9]."""

ENGAGES_ABOVE = {Mood.OVERWHELMED: 70, Mood.TIRED: 50, Mood.ACTIVE: 30, Mood.IDLE: 10}
"""Effective priority, in hundredths, above which a mood engages with an item [A9].

That only defers: with what has waited 30 s every mood engages, see `Inbox.best` [A4].
"""

SPENT_BELOW = 0.2
"""Energy up to which a tired persona engages with nothing but what every mood does."""


def threshold(mood: Mood, energy: float) -> int:
    """Return the effective priority, in hundredths, above which a persona engages with an item now [A9]."""
    if mood is Mood.TIRED and energy <= SPENT_BELOW:
        return ALWAYS_ABOVE
    return ENGAGES_ABOVE[mood]
