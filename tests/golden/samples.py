"""One fixed instance of each struct that crosses a process boundary or lies on a disk.

`wire/` holds their JSON. A file that changes is a change of the wire: processes and stores of another version
still speak the old form. `python -m tests.golden.samples` writes the files that are missing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from libs.contracts import (
    control,
    journal,
    personas,
    presence,
    refusals,
    registry,
    session,
    thoughts,
    work,
)
from libs.contracts.personas import PersonaStatus
from libs.contracts.registry import LoopPhase
from libs.contracts.thoughts import EventType, Phase, ProposalRisk, ProposalStatus, Source
from tests.golden.autonomy import ARRIVED, AUTONOMY, COST, LIVES, STORED_MAIL
from tests.golden.captured import CAPTURES, LINE
from tests.golden.memory import MEMORY

WIRE = Path(__file__).with_name("wire")

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
RAW = msgspec.Raw(b'{"id":"e-1","event_type":"thought_generated"}')

POLICY = personas.PersonaPolicy(
    max_spawn_depth=4,
    max_branching_factor=3,
    token_credits_per_minute=20000,
    cpu_credits_per_minute=10000,
    idle_ttl_secs=18446744073709551615,
    share_memory=True,
)
POLICY_REQUEST = personas.PolicyRequest(max_spawn_depth=2, share_memory=False)
IDENTITY = personas.PersonaIdentity(
    id="persona/ü 1",
    name="Ada",
    role="scout",
    charter="Look far.",
    swarm_id="swarm-core",
    parent_id="root-thinker",
    depth=1,
    created_at=AT,
)
WORDS: dict[str, Any] = {"persona_id": "p-1", "name": "Ada", "role": "scout", "charter": "Look far."}
STATE = personas.PersonaRuntimeState(
    identity=IDENTITY,
    policy=POLICY,
    status=PersonaStatus.ACTIVE,
    thought_count=7,
    last_tick_at=AT,
    updated_at=AT,
)
CREATE = personas.CreatePersonaRequest(
    **WORDS, swarm_id="swarm-core", policy=POLICY_REQUEST, parent_id="root-thinker"
)
IMPORTED = personas.ImportedPersona(**WORDS, swarm_id="swarm-core", parent_id="root-thinker")
REFUSED = personas.RefusedPersona(
    index=3, persona_id="p-1", status=409, detail="Persona p-1 was reaped; its id is not used again"
)
REAP = personas.ReapPersonaRequest(cascade=True, reason="done")
NODE = personas.LineageNode(
    persona_id="a", parent_id=None, children=["b", "c"], depth=0, status=PersonaStatus.REAPED
)
NOTE = registry.ReapNote("done", True, AT)
RECORD = registry.PersonaRecord(
    identity=IDENTITY,
    policy=POLICY,
    status=PersonaStatus.REAPED,
    updated_at=AT,
    reaping=NOTE,
    waiting_for=["p-2"],
)
DEPENDENCIES = personas.DependenciesRequest(waiting_for=["p-2"], notify=None)
LOOP = registry.LoopState(
    run=3,
    phase=LoopPhase.STOPPING,
    interval_ms=2000,
    started_at=AT,
    stop_reason="tea",
    interval_chosen=False,
)
THOUGHT = journal.ThoughtEntry("p-1", 7, 3, "swarm-core", AT, [("thought_generated", RAW)])
REGISTRY_EVENT = journal.JournalEvent("swarm-core", "p-1", "persona_spawned", RAW)
FAILURE = presence.BootFailure(slot_index=0, role="scout", persona_id="p-1", reason="no memory")
CIRCUIT = presence.Circuit(
    endpoint="http://127.0.0.1:11434/v1/chat/completions",
    state="open",
    because="HTTP 503; see what the server says of itself",
    until=AT,
)
THINKER_CIRCUIT = control.ThinkerCircuit(thinker="thinker-1", **msgspec.structs.asdict(CIRCUIT))
SUMMARY = presence.BootSummary(
    service="thinker",
    hosted=1,
    failures=[FAILURE],
    device="cpu",
    compute_type="int8",
    model="tiny",
    thinks_with="tiny in this process",
    troubles=["thoughts are not captured: no stream listens; run `perpetua provision`"],
    versions={"python": "3.11"},
    circuit=CIRCUIT,
)
USAGE = thoughts.Usage(prompt_tokens=10, completion_tokens=4, total_tokens=14)
PERSONA = thoughts.PersonaRef("p-1", "Ada", "scout")
EVENT = thoughts.ThoughtEvent(
    id="e-1",
    event_type="check_result",
    persona_id=None,
    swarm_id=None,
    timestamp=AT,
    payload={"stopped": True, "reason": "tea"},
)
SNAPSHOT = thoughts.MemorySnapshot(
    id="s-1",
    generated_at=AT,
    swarm_id="swarm-core",
    persona_scope=["p-1"],
    summary="Calm.",
    hot_event_count=8,
    warm_fact_count=2,
    cold_snapshot_count=1,
    metadata={"phase": "compress", "completion_tokens": 4},
)
ITEM = work.WorkItem("p-1", "Ada", "scout", "Look far.", None, 8, AT, [LINE], 1)
COUNTERS = work.Counters(7, AT)
TIMES = presence.StageTimes(count=3, least_s=0.01, sum_s=0.06, most_s=0.03)
PRESENT = presence.PresenceRecord(
    service="thinker",
    instance="thinker-1",
    boot="b-1",
    pid=7,
    host="h",
    ready=True,
    since=AT,
    restarts=1,
    last_activity="thought 7 of p-1",
    last_activity_at=AT,
    not_ready_because=None,
    metrics_port=9090,
    leaving=False,
    summary=SUMMARY,
    stages={"inference": TIMES},
    outcomes={"completed": 3, "skipped": 1},
)

SAMPLES: list[msgspec.Struct] = [
    control.StartCognitionRequest(loop_interval_ms=500, seed_persona=CREATE),
    control.StopCognitionRequest(reason="tea"),
    control.CognitionStatus(
        enabled=True,
        running=True,
        loop_interval_ms=2000,
        started_at=AT,
        last_tick_at=None,
        persona_count=3,
        active_persona_count=2,
        events_buffered=11,
        snapshots_buffered=1,
        default_policy=POLICY,
        circuits=[THINKER_CIRCUIT],
        phase=LoopPhase.RUNNING,
    ),
    THINKER_CIRCUIT,
    CIRCUIT,
    THOUGHT,
    journal.ShardRecord(
        number=9,
        owner="boot",
        claim=True,
        thoughts=[THOUGHT],
        halt=2,
        reap=["p-2"],
        received=17,
        arrived=[ARRIVED],
        rolled_up=[("swarm-core", "r-1")],
        folded_in={"swarm-core": (44, 1)},
    ),
    journal.Spawned(RECORD),
    journal.Reaping(["p-1"], "done", True, AT),
    journal.Reaped(["p-1"]),
    journal.DependenciesSet("p-1", ["p-2"], AT),
    journal.Started(3, 2000, AT, False),
    journal.IntervalSet(500, False),
    journal.Stopping(3, None),
    journal.Stopped(3),
    REGISTRY_EVENT,
    journal.RegistryRecord(
        number=4, owner="boot", changes=[journal.Spawned(RECORD), journal.Stopped(3)], events=[REGISTRY_EVENT]
    ),
    journal.PublicRecord(number=None, thoughts=[THOUGHT], events=[REGISTRY_EVENT]),
    journal.CheckpointPage(
        sequence=99, counters={"p-1": (7, AT), "p-2": (0, None)}, mail={"p-1": STORED_MAIL}
    ),
    journal.CheckpointHead(
        sequence=99,
        number=9,
        halted=2,
        pages=1,
        last_tick_at=AT,
        rolled_up={"swarm-core": "r-1"},
        ran_s=3600.25,
        folded_in={"swarm-core": (44, 1)},
        roll_up_costs={"swarm-core": (29455384, COST)},
        accounts_parts=32,
        accounts_side=1,
    ),
    journal.Position(sequence=99),
    journal.Halted(run=3, shards=[0, 63]),
    POLICY,
    POLICY_REQUEST,
    IDENTITY,
    STATE,
    personas.SpawnPersonaRequest(**WORDS, policy=POLICY_REQUEST),
    CREATE,
    REAP,
    personas.ReapPersonaResponse(reaped_ids=["p-1"], count=1),
    NODE,
    IMPORTED,
    personas.ImportPersonasRequest(personas=[IMPORTED]),
    REFUSED,
    personas.ImportPersonasResponse(created=2, existing=1, refused=[REFUSED]),
    personas.LineageGraph(nodes=[NODE], roots=["a"], total_edges=0),
    personas.PersonaPage(personas=[STATE], next_after="p-1", total=3),
    FAILURE,
    SUMMARY,
    PRESENT,
    TIMES,
    presence.ProcessList(processes=[PRESENT]),
    presence.Crash(
        service="thinker",
        instance="thinker-1",
        boot="0011223344556677",
        task="pull",
        error="ValueError: x",
        at=AT,
    ),
    refusals.RefusalBody(404, " Persona not found: ü "),
    NOTE,
    RECORD,
    registry.StoredPersona(sequence=99, record=RECORD),
    LOOP,
    registry.StoredLoop(sequence=99, loop=LOOP),
    registry.ReapCommand(persona_id="p-1", request=REAP),
    DEPENDENCIES,
    personas.PersonaDependencies(persona_id="p-1", waiting_for=["p-2"], notify=["p-3"]),
    registry.DependenciesCommand(persona_id="p-1", request=DEPENDENCIES),
    registry.PersonaQuery(persona_id="p-1"),
    registry.PersonaListQuery(swarm_id="swarm-core", status=PersonaStatus.IDLE, after="a", limit=10),
    registry.PersonaListReply(records=[RECORD], next_after=None, total=1),
    registry.LineageQuery(after="a", as_of=99),
    registry.LineageEntry("a", None, 0, PersonaStatus.ACTIVE),
    registry.LineagePage(
        entries=[registry.LineageEntry("a", "b", 1, PersonaStatus.ERROR)], as_of=99, next_after=None
    ),
    registry.RegistryStatus(
        enabled=True, loop=LOOP, persona_count=3, active_persona_count=2, default_policy=POLICY
    ),
    USAGE,
    PERSONA,
    thoughts.ThoughtPayload(
        phase=Phase.OBSERVE,
        thought_count=5,
        thinking="Calm.",
        source=Source.MODEL,
        persona=PERSONA,
        context_event_count=8,
        model="tiny",
        finish_reason="stop",
        usage=USAGE,
        latency_ms=42,
        error=None,
    ),
    thoughts.CheckResultPayload(
        phase=Phase.TEST, thought_count=3, result_excerpt="It holds.", source=Source.FALLBACK, model=None
    ),
    thoughts.ProposalCreatedPayload(
        proposal_id="r-1", title="Do", rationale_excerpt="Because.", source=Source.MODEL, model="tiny"
    ),
    thoughts.PersonaSpawnedPayload(name="Ada", role="scout", depth=1),
    thoughts.PersonaReapedPayload(reason="manual_reap", cascade=False),
    thoughts.LoopStoppedPayload(stopped=True, reason="tea"),
    thoughts.Event(
        id="e-1",
        event_type=EventType.PERSONA_SPAWNED,
        persona_id="p-1",
        swarm_id=None,
        timestamp=AT,
        payload={"name": "Ada"},
    ),
    EVENT,
    thoughts.SequencedEvent(sequence=5, event=EVENT),
    thoughts.EventPage(
        events=[thoughts.SequencedEvent(sequence=5, event=EVENT)],
        next_after=5,
        skipped=2,
        first_sequence=3,
        last_sequence=5,
    ),
    thoughts.Proposal(
        id="r-1",
        persona_id="p-1",
        title="Do",
        rationale="Because.",
        evidence_refs=["internal.thought_stream"],
        risk=ProposalRisk.LOW,
        status=ProposalStatus.CREATED,
        created_at=AT,
    ),
    SNAPSHOT,
    thoughts.SequencedSnapshot(sequence=2, snapshot=SNAPSHOT),
    thoughts.SnapshotPage(
        snapshots=[thoughts.SequencedSnapshot(sequence=2, snapshot=SNAPSHOT)],
        next_after=2,
        first_sequence=1,
        last_sequence=2,
    ),
    LINE,
    ITEM,
    work.Ticket("p-1", 8, AT),
    work.Chunk(id="c-1", shard=3, run=3, items=[work.Ticket("p-1", 8, AT)]),
    work.GivenUp(shard=3, run=3, items=[ITEM]),
    work.GrantRequest(chunk="c-1", shard=3, sequence=12, deliveries=1, thinker="thinker-1", begin=2),
    work.StillThinking(chunk="c-1", thinker="thinker-1"),
    work.Grant(items=[ITEM], next=2),
    work.Results(chunk="c-1", shard=3, thinker="thinker-1", thoughts=[THOUGHT]),
    work.Settled(stored=1, stale=0),
    work.DeadLetter(subject="think.3", reason="given up", deliveries=4, at=AT, body=b"\x00{}"),
    work.SchedulerStatus(
        instance="scheduler-1",
        ticking=True,
        run=3,
        last_tick_at=AT,
        shards=63,
        personas=7,
        missing=["shard 5: it holds no checkpoint"],
        tick_age_ms=40,
    ),
    work.Waiting(boot="boot", waited_s=4.5, in_turn=3, ahead=1),
    work.CountersQuery(persona_ids=["p-1"]),
    COUNTERS,
    session.SignIn(token="control-token-123"),
    session.Session(required=True, scope="control"),
    work.CountersReply(counters=[COUNTERS, work.Counters(0, None)]),
    *AUTONOMY,
    *CAPTURES,
    *LIVES,
    *MEMORY,
]


def file_of(kind: type[msgspec.Struct]) -> Path:
    """The file of a struct's sample."""
    return WIRE / f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}.json"


def shown(sample: msgspec.Struct) -> bytes:
    """A sample as its file has it: the wire's JSON, indented for people."""
    return msgspec.json.format(msgspec.json.encode(sample)) + b"\n"


if __name__ == "__main__":
    WIRE.mkdir(exist_ok=True)
    for missing in SAMPLES:
        if not file_of(type(missing)).exists():
            file_of(type(missing)).write_bytes(shown(missing))
