"""A persona that is there, compared with how a client describes it. Pure."""

from __future__ import annotations

from msgspec import structs

from libs.contracts.personas import CreatePersonaRequest, PersonaIdentity, PersonaPolicy

POLICY = "policy."
"""Stands before the name of a field of the policy."""

_PLAIN = ("name", "role", "charter", "parent_id")


def differences(
    identity: PersonaIdentity,
    policy: PersonaPolicy,
    wanted: CreatePersonaRequest,
    parent: PersonaPolicy | None,
) -> dict[str, tuple[object, object]]:
    """Return, by field, what is and what is described, where they differ; what is left out is right.

    `parent` is the policy of the described parent, which bounds `max_spawn_depth`; None for a root.
    """
    found: dict[str, tuple[object, object]] = {}
    for name in _PLAIN:
        found[name] = getattr(identity, name), getattr(wanted, name)
    if wanted.swarm_id is not None:
        found["swarm_id"] = identity.swarm_id, wanted.swarm_id
    if wanted.policy is not None:
        bounded = wanted.policy.over(policy)
        if parent is not None:
            depth = min(bounded.max_spawn_depth, parent.max_spawn_depth)
            bounded = structs.replace(bounded, max_spawn_depth=depth)
        for name, value in structs.asdict(bounded).items():
            found[POLICY + name] = getattr(policy, name), value
    return {name: (there, described) for name, (there, described) in found.items() if there != described}
