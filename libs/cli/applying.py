"""`perpetua apply`: looks at what is there, and does what a plan says, in an order in which it can be done.

Personas are created parents first; then it is set who waits for whom, what is taken out before what is added,
so that no step makes a circle; then seeds are sent, each under an id of its own, `once`. Every step may be
made again, so whoever is interrupted runs it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec

from libs.cli.api import Api, Refused, segment
from libs.cli.bar import progress
from libs.cli.errors import CliError
from libs.cli.importing import IMPORT_PATH, batches
from libs.cli.patience import patiently
from libs.cli.rows import BadRow
from libs.cli.swarm_file import SwarmFile
from libs.cli.swarm_plan import Plan, There, Waits
from libs.contracts.personas import PersonaPolicy, PersonaRuntimeState

_PERSONAS = "/v1/swarm/personas"
_PAGE = 1000
_MISSING = HTTPStatus.NOT_FOUND


@dataclass
class Applied:
    """What was done; the rest of the plan was not reached, or refused."""

    created: int = 0
    changed: int = 0
    sent: int = 0
    refused: list[BadRow] = field(default_factory=list)
    error: str | None = None
    """Why it ended before everything was tried."""

    @property
    def done(self) -> int:
        """How many steps are through."""
        return self.created + self.changed + self.sent + len(self.refused)


def look(api: Api, file: SwarmFile) -> There:
    """Return what is there of those that a file names, and of its swarm."""
    found: dict[str, PersonaRuntimeState] = {}
    after: str | None = None
    while True:
        page = api.get(_PERSONAS, swarm_id=file.swarm, after=after, limit=_PAGE)
        for one in msgspec.convert(page["personas"], list[PersonaRuntimeState]):
            found[one.identity.id] = one
        after = page["next_after"]
        if after is None:
            break
    named = {one.row.persona.persona_id for one in file.personas}
    named |= {one.row.persona.parent_id for one in file.personas if one.row.persona.parent_id is not None}
    named |= {name for one in file.personas for name in one.waiting_for or ()}
    for name in sorted(named - found.keys()):
        state = _found(api, f"{_PERSONAS}/{segment(name)}")
        if state is not None:
            found[name] = msgspec.convert(state, PersonaRuntimeState)
    sent = (
        seed.key
        for one in file.personas
        for seed in one.seeds
        if seed.persona_id in found
        and _found(api, f"{_inbox(seed.persona_id)}/{seed.request.id}") is not None
    )
    return There(found, default_policy(api), frozenset(sent))


def default_policy(api: Api) -> PersonaPolicy:
    """Return the policy that the registry gives a root that says none."""
    found = api.get("/v1/cognition/status").get("default_policy")
    if found is None:
        raise CliError(
            "the swarm does not say its default policy: its registry or gateway is older than this"
        )
    return msgspec.convert(found, PersonaPolicy)


def apply(api: Api, plan: Plan) -> Applied:
    """Do what is planned; a step that is refused is named by its line, and the others go on."""
    applied = Applied()
    with progress("steps", plan.steps) as bar:
        try:
            _create(api, plan, applied, bar.show)
            _wait(api, plan, applied, bar.show)
            _send(api, plan, applied, bar.show)
        except KeyboardInterrupt:
            applied.error = "interrupted"
        except CliError as error:
            applied.error = str(error)
    applied.refused.sort(key=lambda one: one.line)
    return applied


def _create(api: Api, plan: Plan, applied: Applied, show: Callable[[int], None]) -> None:
    for batch, body in batches(plan.create):
        answer = patiently(partial(api.post, IMPORT_PATH, body))
        applied.created += answer["created"] + answer["existing"]
        applied.refused += [BadRow(batch[one["index"]].line, one["detail"]) for one in answer["refused"]]
        show(applied.done)


def _wait(api: Api, plan: Plan, applied: Applied, show: Callable[[int], None]) -> None:
    adding: list[Waits] = []
    for one in plan.wait:
        kept = [name for name in one.now if name in one.wanted]
        done = kept == one.now or _set(api, one, kept, applied)
        if kept == one.wanted:
            applied.changed += done
        elif done:
            adding.append(one)
        show(applied.done)
    for one in adding:
        applied.changed += _set(api, one, one.wanted, applied)
        show(applied.done)


def _set(api: Api, one: Waits, names: list[str], applied: Applied) -> bool:
    put = partial(api.put, f"{_PERSONAS}/{segment(one.persona_id)}/dependencies", {"waiting_for": names})
    return _tried(put, one.line, applied)


def _send(api: Api, plan: Plan, applied: Applied, show: Callable[[int], None]) -> None:
    for seed in plan.send:
        body = msgspec.json.encode(seed.request)
        applied.sent += _tried(partial(api.post, _inbox(seed.persona_id), body), seed.line, applied)
        show(applied.done)


def _tried(ask: Callable[[], Any], line: int, applied: Applied) -> bool:
    """Whether a step was done, and not refused; a line is named once, whatever is refused for it."""
    try:
        patiently(ask)
    except Refused as error:
        if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise
        bad = BadRow(line, str(error))
        if bad not in applied.refused:
            applied.refused.append(bad)
        return False
    return True


def _found(api: Api, path: str) -> Any:
    """Return the JSON of a GET, or None where there is nothing."""
    try:
        return api.get(path)
    except Refused as error:
        if error.status == _MISSING:
            return None
        raise


def _inbox(persona_id: str) -> str:
    return f"{_PERSONAS}/{segment(persona_id)}/inbox"
