"""Every subject of the system, named once. docs/subjects.md shows them to subscribers."""

from __future__ import annotations

from libs.contracts.tokens import NONE, encode

EVENTS = "perpetua.events.>"
EVENTS_IN = "perpetua.in.events.>"
SNAPSHOTS = "perpetua.snapshots.>"
SNAPSHOTS_IN = "perpetua.in.snapshots.>"

INBOX = "inbox.*.*"
SEND = "perpetua.inbox.*"
SEND_SWARM = "perpetua.inbox_swarm.*"

JOURNAL = "j.*"
JOURNAL_REGISTRY = "j.registry"
THINK = "think.*"
DEAD_LETTERS = "perpetua.dead.>"
CAPTURES = "perpetua.captures.>"

SUMMARIES = "perpetua.summaries"
"""Where compressors ask for a summary; thinkers that have a model answer, one of them."""

POSITION = "perpetua.position"
HALTED = "perpetua.halted"
WAITING = "perpetua.waiting"
"""Where schedulers tell each other that somebody has waited for its turn for long."""

CRASHED = "perpetua.crashed.*.*"
SCHEDULER_STATUS = "perpetua.scheduler.status"

REGISTRY = "perpetua.registry"
CREATE, IMPORT, REAP, DEPENDENCIES = "create", "import", "reap", "dependencies"
PERSONA, PERSONAS, LINEAGE = "persona", "personas", "lineage"
START, STOP, STATUS = "start", "stop", "status"

WORK_EXHAUSTED = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.THINK.thinkers"


def event(swarm_id: str | None, persona_id: str | None, event_type: str) -> str:
    """Subject on which subscribers see an event."""
    return f"perpetua.events.{encode(swarm_id)}.{encode(persona_id)}.{event_type}"


def events_of_swarm(swarm_id: str, event_type: str) -> str:
    """Subjects of a swarm's events of one type, whosever they are."""
    return f"perpetua.events.{encode(swarm_id)}.*.{event_type}"


def events_of_persona(persona_id: str) -> str:
    """Subjects of all events of a persona, whatever its swarm."""
    return f"perpetua.events.*.{encode(persona_id)}.*"


def event_in(swarm_id: str | None, persona_id: str | None, event_type: str) -> str:
    """Subject on which the publisher, and nobody else, stores an event."""
    return f"perpetua.in.events.{encode(swarm_id)}.{encode(persona_id)}.{event_type}"


def snapshot_in(swarm_id: str | None, persona_id: str | None) -> str:
    """Subject on which the publisher stores a memory snapshot."""
    return f"perpetua.in.snapshots.{encode(swarm_id)}.{encode(persona_id)}"


def snapshots_of(swarm_id: str | None) -> str:
    """Subjects of all snapshots of a swarm or, for None, of everybody's."""
    return f"perpetua.snapshots.{_or_any(swarm_id)}.*"


def roll_ups_of(swarm_id: str | None) -> str:
    """Subjects of what a swarm remembers as a whole or, for None, of what every swarm does."""
    return f"perpetua.snapshots.{_or_any(swarm_id)}.{NONE}"


def _or_any(swarm_id: str | None) -> str:
    return encode(swarm_id) if swarm_id is not None else "*"


def capture(persona_id: str, thought_count: int) -> str:
    """Subject on which a captured thought is kept."""
    return f"perpetua.captures.{encode(persona_id)}.{thought_count}"


def captures_of(persona_id: str) -> str:
    """Subjects of every captured thought of a persona."""
    return f"perpetua.captures.{encode(persona_id)}.*"


def journal(shard: int) -> str:
    """Journal subject of a shard."""
    return f"j.{shard}"


def inbox(shard: int, persona_id: str) -> str:
    """Where what was sent to a persona is kept until a thought has handled it."""
    return f"inbox.{shard}.{encode(persona_id)}"


def inboxes(shard: int) -> str:
    """Subjects of all that is kept for a shard's personas."""
    return f"inbox.{shard}.*"


def send(persona_id: str) -> str:
    """Where anybody who may sends something to a persona; gateways answer."""
    return f"perpetua.inbox.{encode(persona_id)}"


def send_swarm(swarm_id: str) -> str:
    """Where anybody who may sends something to every persona of a swarm; gateways answer."""
    return f"perpetua.inbox_swarm.{encode(swarm_id)}"


def think(shard: int) -> str:
    """Work queue subject of a shard."""
    return f"think.{shard}"


def grant(shard: int) -> str:
    """Where thinkers ask a shard's owner what is still wanted."""
    return f"perpetua.grant.{shard}"


def thinking(shard: int) -> str:
    """Where thinkers say that they still think of a chunk."""
    return f"perpetua.thinking.{shard}"


def result(shard: int) -> str:
    """Where thinkers send a shard's owner what they thought."""
    return f"perpetua.result.{shard}"


def counters(shard: int) -> str:
    """Where a shard's owner shows its personas' counters."""
    return f"perpetua.counters.{shard}"


def held(shard: int) -> str:
    """Where a shard's owner shows what a persona's inbox holds."""
    return f"perpetua.held.{shard}"


def spend(shard: int) -> str:
    """Where a shard's owner shows what its personas have spent."""
    return f"perpetua.spend.{shard}"


def roll_up(shard: int) -> str:
    """Where a compressor has a shard's owner journal what a swarm remembers; the swarm's id says which."""
    return f"perpetua.roll_up.{shard}"


def roll_up_credits(shard: int) -> str:
    """Where a compressor asks a shard's owner whether a model may sum up what a swarm remembers."""
    return f"perpetua.roll_up_credits.{shard}"


def accounts(shard: int) -> str:
    """Where a shard's owner keeps the accounts of its personas, for owners of their descendants."""
    return f"perpetua.accounts.{shard}"


def dead_letter(stream: str) -> str:
    """Where messages of a stream go that were given up."""
    return f"perpetua.dead.{stream}"


def registry(endpoint: str) -> str:
    """Subject of an endpoint of the registry's micro service."""
    return f"{REGISTRY}.{endpoint}"


def persona_key(persona_id: str) -> str:
    """Subject of a persona's key in its bucket."""
    return f"$KV.personas.{encode(persona_id)}"


LOOP_KEY = "$KV.control.loop"


def presence_key(service: str, instance: str) -> str:
    """Subject of a process's key in the `leases` bucket."""
    return f"$KV.leases.{service}.{encode(instance)}"


def presence_keys(service: str) -> str:
    """Subjects of the keys of all processes of a service in the `leases` bucket."""
    return f"$KV.leases.{service}.*"


def crashed(service: str, instance: str) -> str:
    """Where a process says that it ends by an error, and why."""
    return f"perpetua.crashed.{service}.{encode(instance)}"


def checkpoint_head(shard: int) -> str:
    """Subject of a shard's checkpoint head."""
    return f"$KV.checkpoints.{shard}.head"


def checkpoint_page(shard: int, page: int) -> str:
    """Subject of one page of a shard's checkpoint."""
    return f"$KV.checkpoints.{shard}.{page}"


def checkpoint_accounts(shard: int, side: int, part: int) -> str:
    """Subject of one part of a shard's accounts, where they are too large for the head of its checkpoint."""
    return f"$KV.checkpoints.{shard}.accounts.{side}.{part}"


def post_key(post_id: str) -> str:
    """Subject of a swarm-wide post's key in its bucket."""
    return f"$KV.posts.{encode(post_id)}"


def sent_key(persona_id: str, item_id: str) -> str:
    """Subject of the key that says that an item that is to be sent once was stored for a persona."""
    return f"$KV.sent.persona.{encode(persona_id)}.{encode(item_id)}"


def posted_key(swarm_id: str, post_id: str) -> str:
    """Subject of the key that says that a post that is to be sent once was stored for a whole swarm."""
    return f"$KV.sent.swarm.{encode(swarm_id)}.{encode(post_id)}"


def proposal_key(proposal_id: str) -> str:
    """Subject of a proposal's key in its bucket."""
    return f"$KV.proposals.{encode(proposal_id)}"
