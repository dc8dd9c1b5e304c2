"""The registry's endpoints, `perpetua.registry.<name>`."""

from __future__ import annotations

from typing import Any

import msgspec

from libs.bus.endpoints import Handler, Request
from libs.contracts import subjects
from libs.contracts.control import StartCognitionRequest, StopCognitionRequest
from libs.contracts.journal import Spawned
from libs.contracts.personas import CreatePersonaRequest, ImportPersonasRequest
from libs.contracts.registry import (
    DependenciesCommand,
    LineageQuery,
    PersonaListQuery,
    PersonaQuery,
    ReapCommand,
)
from libs.journal.tail import Tail
from libs.roster.state import Roster
from services.registry import queries
from services.registry.committer import Committer
from services.registry.dependencies import set_dependencies
from services.registry.importing import import_all
from services.registry.reaping import Reaper
from services.registry.rules import Rules
from services.registry.running import Runner

_encode = msgspec.json.Encoder().encode


class Nothing(msgspec.Struct, frozen=True):
    """The empty message."""


class Handlers:
    """Answers requests; every read first folds what other registries have appended."""

    def __init__(
        self, tail: Tail, roster: Roster, rules: Rules, committer: Committer, reaper: Reaper, runner: Runner
    ) -> None:
        self._tail = tail
        self._roster = roster
        self._rules = rules
        self._committer = committer
        self._reaper = reaper
        self._runner = runner

    def endpoints(self) -> dict[str, tuple[type, Handler[Any]]]:
        """Return the endpoints by name, with the type of their messages."""
        return {
            subjects.CREATE: (CreatePersonaRequest, self.create),
            subjects.IMPORT: (ImportPersonasRequest, self.import_all),
            subjects.REAP: (ReapCommand, self.reap),
            subjects.DEPENDENCIES: (DependenciesCommand, self.dependencies),
            subjects.PERSONA: (PersonaQuery, self.persona),
            subjects.PERSONAS: (PersonaListQuery, self.personas),
            subjects.LINEAGE: (LineageQuery, self.lineage),
            subjects.START: (StartCognitionRequest, self.start),
            subjects.STOP: (StopCognitionRequest, self.stop),
            subjects.STATUS: (Nothing, self.status),
        }

    async def create(self, message: CreatePersonaRequest, _: Request) -> bytes:
        """Create a root or spawn a child."""
        done = await self._committer.commit(lambda view: self._rules.create(view, message), shared=True)
        (change,) = done.decision.changes
        assert isinstance(change, Spawned)
        return _encode(change.persona)

    async def import_all(self, message: ImportPersonasRequest, _: Request) -> bytes:
        """Create those of many personas that are not there yet."""
        return _encode(await import_all(self._rules, self._committer, message))

    async def reap(self, message: ReapCommand, _: Request) -> bytes:
        """Reap one persona or a tree."""
        return _encode(await self._reaper.reap(message.persona_id, message.request))

    async def dependencies(self, message: DependenciesCommand, _: Request) -> bytes:
        """Set whom a persona waits for, and who waits for it."""
        at = self._rules.now()
        await self._committer.commit(
            lambda view: set_dependencies(view, message.persona_id, message.request, at)
        )
        return _encode(queries.dependencies(self._roster, message.persona_id))

    async def persona(self, message: PersonaQuery, _: Request) -> bytes:
        """Show one persona."""
        await self._tail.sync()
        return _encode(queries.persona(self._roster, message.persona_id))

    async def personas(self, message: PersonaListQuery, _: Request) -> bytes:
        """Show a page of personas."""
        await self._tail.sync()
        return _encode(queries.page(self._roster, message))

    async def lineage(self, message: LineageQuery, _: Request) -> bytes:
        """Show a page of the tree. The first page says as of when; those behind it need no newer record."""
        if message.as_of is None or message.as_of > self._tail.sequence:
            await self._tail.sync()
        return _encode(queries.lineage_page(self._roster, message, self._tail.sequence))

    async def start(self, message: StartCognitionRequest, _: Request) -> bytes:
        """Start the loop."""
        return _encode(await self._runner.start(message))

    async def stop(self, message: StopCognitionRequest, _: Request) -> bytes:
        """Stop the loop."""
        return _encode(await self._runner.stop(message.reason))

    async def status(self, message: Nothing, _: Request) -> bytes:
        """Show the loop's desired state and the counts."""
        await self._tail.sync()
        rules = self._rules
        found = queries.status(self._roster, self._runner.loop, rules.enabled, rules.default_policy)
        return _encode(found)
