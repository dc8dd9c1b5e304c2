"""The personas of a simulated swarm: families of a root and its children, several of them a swarm."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from bench.simulation.day import role_of
from bench.simulation.options import Options
from libs.contracts.personas import PersonaIdentity, PersonaPolicy, PersonaStatus
from libs.contracts.registry import PersonaRecord


def name_of(number: int) -> str:
    """Return a persona's id, which is its name too."""
    return f"p-{number}"


def people(options: Options, at: datetime) -> Iterator[PersonaRecord]:
    """Yield everybody, parents before their children."""
    for number in range(options.personas):
        root = number - number % options.family
        is_root = number == root
        yield PersonaRecord(
            identity=PersonaIdentity(
                id=name_of(number),
                name=name_of(number),
                role=role_of(number),
                charter=f"Be the {role_of(number)} of numbers, plans and harbours.",
                swarm_id=f"swarm-{number // options.swarm}",
                parent_id=None if is_root else name_of(root),
                depth=0 if is_root else 1,
                created_at=at,
            ),
            policy=_policy(number, options, options.root_credits if is_root else 1.0),
            status=PersonaStatus.ACTIVE,
            updated_at=at,
        )


def _policy(number: int, options: Options, times: float) -> PersonaPolicy:
    return PersonaPolicy(
        max_spawn_depth=4,
        max_branching_factor=options.family,
        token_credits_per_minute=int(options.token_credits * times),
        cpu_credits_per_minute=int(options.cpu_credits * times),
        idle_ttl_secs=options.idle_ttl_secs,
        share_memory=number % options.swarm < options.sharers,
    )
