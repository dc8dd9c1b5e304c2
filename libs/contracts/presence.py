"""Who is there: what each process says of itself, renewed every second and a half [H3, H9]."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class BootFailure(Struct, frozen=True, kw_only=True):
    """A slot that a process could not host: of a scheduler a shard, whose siblings go on without it."""

    slot_index: int
    role: str
    persona_id: str | None
    reason: str


class Circuit(Struct, frozen=True, kw_only=True):
    """The circuit breaker before a thinker's model endpoint."""

    endpoint: str
    state: str
    """`closed`: it is asked; `held`: it asked for a pause; `open`: it is left alone; `half_open`: one thought
    tries whether it is back."""

    because: str | None = None
    """Why it is not closed, and the cure."""

    until: datetime | None = None
    """While it is open or held, when the endpoint is asked again: with the first thought from then on."""


class BootSummary(Struct, frozen=True, kw_only=True):
    """What a process has brought up. `attempted = hosted + len(failures)`."""

    service: str
    hosted: int
    failures: list[BootFailure] = []
    device: str | None = None
    compute_type: str | None = None
    model: str | None = None
    thinks_with: str | None = None
    """Which backend was chosen and why, in one sentence; thinkers only."""

    troubles: list[str] = []
    """What does not work as it should just now, each with its cause and cure, in one sentence."""

    versions: dict[str, str] = {}
    circuit: Circuit | None = None
    """Of thinkers that ask an endpoint."""

    @property
    def attempted(self) -> int:
        """How many slots the process has tried to host."""
        return self.hosted + len(self.failures)


class StageTimes(Struct, frozen=True, kw_only=True):
    """How long a stage of thoughts took, in seconds, since its process started."""

    count: int
    least_s: float
    sum_s: float
    most_s: float


class PresenceRecord(Struct, frozen=True, kw_only=True):
    """One living process."""

    service: str
    instance: str
    boot: str
    """Unique to this start of the process."""

    pid: int
    host: str
    ready: bool
    since: datetime
    restarts: int
    last_activity: str | None = None
    last_activity_at: datetime | None = None
    not_ready_because: str | None = None
    metrics_port: int | None = None
    leaving: bool = False
    """The process is on its way out: leave its share of the work to others."""

    ended: str | None = None
    """What has ended the process: this is its last word, which nobody renews [H7]."""

    summary: BootSummary | None = None
    stages: dict[str, StageTimes] = {}
    """Of its part of thoughts, by stage; one that it has not seen yet is left out [H16]."""

    outcomes: dict[str, int] = {}
    """Of schedulers: thoughts that were completed, failed or fallbacks, and ticks that were skipped."""


class ProcessList(Struct, frozen=True, kw_only=True):
    """Who is there, sorted by service and instance."""

    processes: list[PresenceRecord]


class Crash(Struct, frozen=True, kw_only=True):
    """A process says that it ends by an error [H7]."""

    service: str
    instance: str
    boot: str
    task: str | None
    """Which of its tasks the error has ended; null where it was none."""

    error: str
    at: datetime
