"""Importing: personas that are to be there. Whoever is there as described stays as it is."""

from __future__ import annotations

from functools import partial

from libs.contracts.described import POLICY, differences
from libs.contracts.personas import (
    ImportedPersona,
    ImportPersonasRequest,
    ImportPersonasResponse,
    PersonaStatus,
    RefusedPersona,
)
from libs.contracts.refusals import Conflict, Refusal
from libs.contracts.registry import PersonaRecord
from services.registry.committer import Committer
from services.registry.rules import Decision, Rules, View


def ensure(rules: Rules, view: View, wanted: ImportedPersona) -> Decision:
    """Create a persona, or decide nothing where it is there as described.

    Raises `Conflict` where its id is another's or was a reaped one's, and what creating it raises [2.4].
    """
    there = view.persona(wanted.persona_id)
    if there is None:
        return rules.create(view, wanted)
    if there.status is PersonaStatus.REAPED:
        raise Conflict.was_reaped(wanted.persona_id)
    if fields := _differences(view, there, wanted):
        raise Conflict.another(wanted.persona_id, fields)
    return Decision()


def _differences(view: View, there: PersonaRecord, wanted: ImportedPersona) -> list[str]:
    """Name the fields in which a persona is not as described; those of its policy are one."""
    parent = view.persona(wanted.parent_id) if wanted.parent_id is not None else None
    bound = parent.policy if parent is not None else None
    found = differences(there.identity, there.policy, wanted, bound)
    return list(dict.fromkeys("policy" if name.startswith(POLICY) else name for name in found))


async def import_all(
    rules: Rules, committer: Committer, request: ImportPersonasRequest
) -> ImportPersonasResponse:
    """Import personas in their order, as many as fit in one journal record.

    A refused one does not hinder the others. Raises `Unavailable` when the journal stays full: what was
    appended by then is there, and is found there when the request is made again.
    """
    committed = [
        committer.submit(partial(ensure, rules, wanted=wanted), shared=True) for wanted in request.personas
    ]
    created, refused = 0, list[RefusedPersona]()
    unavailable: Refusal | None = None
    for index, (wanted, done) in enumerate(zip(request.personas, committed, strict=True)):
        try:
            created += bool((await done).decision.changes)
        except Refusal as refusal:
            if refusal.status == 503:
                unavailable = refusal
            refused.append(
                RefusedPersona(
                    index=index,
                    persona_id=wanted.persona_id,
                    status=refusal.status,
                    detail=refusal.detail,
                )
            )
    if unavailable is not None:
        raise unavailable
    existing = len(request.personas) - created - len(refused)
    return ImportPersonasResponse(created=created, existing=existing, refused=refused)
