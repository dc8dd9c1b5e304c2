"""Who waits for whom, decided so that nobody waits for ever: there is never a cycle. Pure [A15].

Only personas that live count: who is reaped thinks no more, so nobody waits for it or through it.
"""

from __future__ import annotations

from datetime import datetime

from libs.contracts.journal import Change, DependenciesSet
from libs.contracts.limits import DEPENDENCIES
from libs.contracts.personas import DependenciesRequest, PersonaStatus
from libs.contracts.refusals import Conflict, NotFound
from libs.contracts.registry import PersonaRecord
from services.registry.rules import Decision, View


def set_dependencies(view: View, persona_id: str, request: DependenciesRequest, at: datetime) -> Decision:
    """Have a persona wait for these, and those for it; an empty decision where it is so already.

    Raises `NotFound` for personas that are not there, and `Conflict` for reaped ones, for a cycle, which it
    names, and where somebody would wait for too many.
    """
    wanted: dict[str, list[str]] = {}
    record = view.persona(persona_id)
    if record is None:
        raise NotFound.persona(persona_id)
    if record.status is PersonaStatus.REAPED:
        raise Conflict.reaped(persona_id)
    if request.waiting_for is not None:
        wanted[persona_id] = sorted({_living(view, name).identity.id for name in request.waiting_for})
    if request.notify is not None:
        wanted |= _notified(view, persona_id, set(request.notify))
    changed = {name: names for name, names in wanted.items() if names != _waits_for(view, name)}
    for name, names in changed.items():
        if len(names) > DEPENDENCIES:
            raise Conflict.too_many_dependencies(name, DEPENDENCIES)
    if cycle := find_cycle(view, changed):
        raise Conflict.cycle(cycle)
    changes: list[Change] = [DependenciesSet(name, names, at) for name, names in changed.items()]
    return Decision(changes=changes)


def find_cycle(view: View, changed: dict[str, list[str]]) -> list[str]:
    """Return personas of which each would wait for the next, and the last for the first; or nobody.

    `changed` says for whom some would wait instead. What is not changed has no cycle, so one that there is
    leads through somebody who is.
    """
    done: set[str] = set()
    for begin in changed:
        path: list[str] = []
        on_path: set[str] = set()
        # Depth first with an explicit stack: None marks that everything below the path's end was looked at.
        stack: list[str | None] = [begin]
        while stack:
            name = stack.pop()
            if name is None:
                done.add(path[-1])
                on_path.discard(path.pop())
            elif name in on_path:
                return path[path.index(name) :]
            elif name not in done:
                path.append(name)
                on_path.add(name)
                stack.append(None)
                stack.extend(changed[name] if name in changed else _waits_for(view, name))
    return []


def _notified(view: View, persona_id: str, notify: set[str]) -> dict[str, list[str]]:
    """Return what those would wait for who do now, or are to from now on."""
    found: dict[str, list[str]] = {}
    for name in sorted(notify):
        there = _living(view, name)
        found[name] = sorted({*there.waiting_for, persona_id})
    for name in view.dependents_of(persona_id):
        if name not in notify:
            found[name] = [other for other in _waits_for(view, name) if other != persona_id]
    return found


def _living(view: View, persona_id: str) -> PersonaRecord:
    record = view.persona(persona_id)
    if record is None:
        raise NotFound.persona(persona_id)
    if record.status is PersonaStatus.REAPED:
        raise Conflict.dependency_reaped(persona_id)
    return record


def _waits_for(view: View, persona_id: str) -> list[str]:
    """Return whom a persona waits for; nobody where it lives no more."""
    record = view.persona(persona_id)
    return [] if record is None or record.status is PersonaStatus.REAPED else record.waiting_for
