"""What a simulated day is made of."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=1)]


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The swarm, its thinker and its day. Two simulations with the same options are the same."""

    personas: Count = 1000
    hours: Annotated[float, Meta(gt=0)] = 24.0
    seed: int = 1

    interval_ms: Annotated[int, Meta(ge=100)] = 2000
    """The loop's interval; Perpetua's default."""

    swarm: Count = 50
    """Personas of a swarm."""

    family: Count = 10
    """Personas of a tree: a root and its children."""

    token_credits: int = 20_000
    """Of a persona in a minute; Perpetua's default, like the next two."""

    cpu_credits: int = 10_000
    root_credits: float = 10.0
    """So many times that has a root, whose credits bound its whole tree."""

    idle_ttl_secs: int = 0
    """0: nobody is reaped. Perpetua's default is 3600."""

    sharers: int = 0
    """Personas of each swarm that share their memory."""

    slots: Count = 16
    """Thoughts that are thought side by side."""

    latency_s: Annotated[float, Meta(gt=0)] = 2.0
    """Mean of a thought's time, log-normal with sigma 0.5."""

    prompt_tokens: int = 700
    completion_tokens: int = 150
    """Mean, log-normal with sigma 0.4."""

    items_a_day: float = 10.0
    """Messages to a persona on a day, but for what follows; mean, with a few personas that get most."""

    urgent_a_minute: float = 2.0
    posts_an_hour: float = 6.0
    """Swarm-wide posts, all swarms together."""

    bursts: int = 24
    """So many times a day somebody gets 80 messages within a minute."""

    storm_minutes: float = 10.0
    """Messages at twice the capacity, at 14 of 24 parts of the time."""

    outage_minutes: float = 20.0
    """The endpoint is away, at 18 of 24 parts of the time."""

    quiet_swarms: int = 2
    """Nobody says anything to the first swarms, but in the storm and by urgent messages at daytime."""

    @property
    def capacity(self) -> float:
        """Thoughts a second that the thinker can think at most."""
        return self.slots / self.latency_s

    @property
    def seconds(self) -> float:
        """Simulated seconds."""
        return self.hours * 3600
