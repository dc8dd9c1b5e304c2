"""What the registry decides, without I/O: the rules of creation, reaping, starting and stopping.

A decision is made on a `View` of the roster and says what changes. It is only carried out by appending it to
`j.registry` under the sequence it was decided at (services/registry/committer.py).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from msgspec import Struct, field, structs

from libs.cognition.compose import make_event
from libs.contracts.control import StartCognitionRequest
from libs.contracts.journal import (
    Change,
    IntervalSet,
    JournalEvent,
    Reaped,
    Reaping,
    Spawned,
    Started,
    Stopped,
    Stopping,
)
from libs.contracts.limits import INTERVAL_FLOOR_MS
from libs.contracts.personas import (
    CreatePersonaRequest,
    PersonaIdentity,
    PersonaPolicy,
    PersonaStatus,
    ReapPersonaRequest,
)
from libs.contracts.refusals import Conflict, LimitReached, LoopDisabled, NotFound
from libs.contracts.registry import LoopPhase, LoopState, PersonaRecord
from libs.contracts.thoughts import (
    EventType,
    LoopStoppedPayload,
    PersonaReapedPayload,
    PersonaSpawnedPayload,
)

DEFAULT_REASON = "manual_reap"

REAPED_AT_ONCE = 500
"""Personas that one record reaps or announces at most, so that it stays within its size."""

DEFAULT_SEED = CreatePersonaRequest(
    persona_id="root-thinker",
    name="root-thinker",
    role="orchestrator",
    charter="Continuously observe, reflect, test hypotheses, and compress useful insights.",
    swarm_id="swarm-core",
)


class View(Protocol):
    """What decisions are made on: the roster, with what earlier decisions of the same record add to it."""

    def persona(self, persona_id: str) -> PersonaRecord | None:
        """Return a persona's record."""

    def living_children_of(self, persona_id: str) -> int:
        """Return how many of its children are not reaped."""

    def children_of(self, persona_id: str) -> list[str]:
        """Return all its children, sorted by id."""

    def dependents_of(self, persona_id: str) -> list[str]:
        """Return those that wait for it, sorted by id, reaped ones too."""

    def is_empty(self) -> bool:
        """Whether there is no persona at all."""

    def loop(self) -> LoopState | None:
        """Return the loop's desired state, if one was ever set."""

    def most_runs(self) -> int:
        """Return how many runs there can have been at most."""


class Decision(Struct, frozen=True, kw_only=True):
    """Changes that happen together or not at all, with their events."""

    changes: list[Change] = field(default_factory=list)
    events: list[JournalEvent] = field(default_factory=list)

    def plus(self, other: Decision) -> Decision:
        """Return both as one."""
        return Decision(changes=self.changes + other.changes, events=self.events + other.events)


class Rules(Struct, frozen=True, kw_only=True):
    """The settings that decisions depend on, and where time and ids come from."""

    enabled: bool
    auto_start: bool
    default_interval_ms: int
    default_policy: PersonaPolicy
    now: Callable[[], datetime]
    new_id: Callable[[], str]

    def create(self, view: View, request: CreatePersonaRequest) -> Decision:
        """Create a root or spawn a child [2.3–2.5, 2.7]. Raises the refusals of [2.4], in their order."""
        parent = self._parent(view, request)
        base = parent.policy if parent is not None else self.default_policy
        policy = request.policy.over(base) if request.policy is not None else base
        depth = 0
        if parent is not None:
            depth = parent.identity.depth + 1
            if depth > parent.policy.max_spawn_depth:
                raise LimitReached.depth(depth, parent.policy.max_spawn_depth)
            bound = min(policy.max_spawn_depth, parent.policy.max_spawn_depth)
            policy = structs.replace(policy, max_spawn_depth=bound)
        persona_id = request.persona_id if request.persona_id is not None else self.new_id()
        if view.persona(persona_id) is not None:
            raise Conflict.taken(persona_id)
        return self._spawned(request, parent, policy, persona_id, depth)

    def _parent(self, view: View, request: CreatePersonaRequest) -> PersonaRecord | None:
        if request.parent_id is None:
            return None
        parent = view.persona(request.parent_id)
        if parent is None:
            raise NotFound.parent(request.parent_id)
        if parent.status is PersonaStatus.REAPED:
            raise Conflict.parent_reaped(request.parent_id)
        limit = parent.policy.max_branching_factor
        if view.living_children_of(request.parent_id) >= limit:
            raise LimitReached.branching(request.parent_id, limit)
        return parent

    def _spawned(
        self,
        request: CreatePersonaRequest,
        parent: PersonaRecord | None,
        policy: PersonaPolicy,
        persona_id: str,
        depth: int,
    ) -> Decision:
        inherited = parent.identity.swarm_id if parent is not None else None
        identity = PersonaIdentity(
            id=persona_id,
            name=request.name,
            role=request.role,
            charter=request.charter,
            swarm_id=request.swarm_id if request.swarm_id is not None else inherited,
            parent_id=request.parent_id,
            depth=depth,
            created_at=self.now(),
        )
        record = PersonaRecord(
            identity=identity, policy=policy, status=PersonaStatus.ACTIVE, updated_at=identity.created_at
        )
        payload = PersonaSpawnedPayload(name=identity.name, role=identity.role, depth=depth)
        event = _event(EventType.PERSONA_SPAWNED, identity, identity.created_at, payload)
        return Decision(changes=[Spawned(record)], events=[event])

    def reap(self, view: View, persona_id: str, request: ReapPersonaRequest, at: datetime) -> Decision:
        """Reap a persona, with `cascade` all below it too [2.8]; an empty decision where nothing lives.

        One record takes so many personas; for a larger tree the decision is made again until it is empty.
        """
        if view.persona(persona_id) is None:
            raise NotFound.persona(persona_id)
        order = _breadth_first(view, persona_id) if request.cascade else [persona_id]
        living = [name for name in order if _lives(view.persona(name))]
        if not living:
            return Decision()
        reason = request.reason if request.reason is not None else DEFAULT_REASON
        return Decision(changes=[Reaping(living[:REAPED_AT_ONCE], reason, bool(request.cascade), at)])

    def begin(self, view: View) -> Decision:
        """Take up the settings as a registry begins: each counts where no request has decided [4.1]."""
        loop = view.loop()
        if loop is None and self.auto_start and self.enabled:
            return self.start(view, StartCognitionRequest())
        if loop is None or loop.interval_chosen or loop.interval_ms == self.default_interval_ms:
            return Decision()
        return Decision(changes=[IntervalSet(self.default_interval_ms, interval_chosen=False)])

    def start(self, view: View, request: StartCognitionRequest) -> Decision:
        """Start the loop, or change its interval while it runs [4.1]. A refused seed changes nothing."""
        if not self.enabled:
            raise LoopDisabled
        seed = Decision()
        if view.is_empty():
            seed = self.create(view, request.seed_persona or DEFAULT_SEED)
        loop = view.loop()
        wanted = request.loop_interval_ms
        interval = max(wanted, INTERVAL_FLOOR_MS) if wanted is not None else None
        if loop is not None and loop.phase is LoopPhase.RUNNING:
            if interval is None or (interval == loop.interval_ms and loop.interval_chosen):
                return seed
            return seed.plus(Decision(changes=[IntervalSet(interval)]))
        return seed.plus(Decision(changes=[self._started(view, interval)]))

    def _started(self, view: View, interval: int | None) -> Started:
        loop = view.loop()
        run = 1 + (loop.run if loop is not None else view.most_runs())
        if interval is None and loop is not None and loop.interval_chosen:
            interval = loop.interval_ms
        if interval is None:
            return Started(run, self.default_interval_ms, self.now(), interval_chosen=False)
        return Started(run, interval, self.now())

    def stop(self, view: View, reason: str | None) -> Decision:
        """Begin to stop a running loop; one that does not run only has the reason announced [4.2].

        One that is stopping already keeps its reason.
        """
        loop = view.loop()
        if loop is not None and loop.phase is LoopPhase.RUNNING:
            return Decision(changes=[Stopping(loop.run, reason)])
        if loop is not None and loop.phase is LoopPhase.STOPPING:
            return Decision()
        return Decision(events=self._stop_events(reason))

    def stopped(self, view: View, run: int) -> Decision:
        """End a run all of whose shards are halted; an empty decision where another process was faster."""
        loop = view.loop()
        if loop is None or loop.run != run or loop.phase is not LoopPhase.STOPPING:
            return Decision()
        return Decision(changes=[Stopped(run)], events=self._stop_events(loop.stop_reason))

    def _stop_events(self, reason: str | None) -> list[JournalEvent]:
        if reason is None:
            return []
        payload = LoopStoppedPayload(stopped=True, reason=reason)
        event = make_event(EventType.CHECK_RESULT, None, None, self.now(), payload)
        return [JournalEvent(None, None, EventType.CHECK_RESULT, event)]


def announce(view: View, persona_ids: list[str]) -> Decision:
    """Announce the reap of personas whose shards are fenced; those announced already stay as they are."""
    records = [record for name in persona_ids if (record := view.persona(name)) and record.reaping]
    if not records:
        return Decision()
    return Decision(
        changes=[Reaped([record.identity.id for record in records])],
        events=[_announcement(record) for record in records],
    )


def _announcement(record: PersonaRecord) -> JournalEvent:
    assert record.reaping is not None
    note = record.reaping
    payload = PersonaReapedPayload(reason=note.reason, cascade=note.cascade)
    return _event(EventType.PERSONA_REAPED, record.identity, note.at, payload)


def _event(kind: EventType, identity: PersonaIdentity, at: datetime, payload: Struct) -> JournalEvent:
    event = make_event(kind, identity.id, identity.swarm_id, at, payload)
    return JournalEvent(identity.swarm_id, identity.id, kind, event)


def _breadth_first(view: View, root: str) -> list[str]:
    order = [root]
    for persona_id in order:
        order.extend(view.children_of(persona_id))
    return order


def _lives(record: PersonaRecord | None) -> bool:
    return record is not None and record.status is not PersonaStatus.REAPED
