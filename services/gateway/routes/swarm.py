"""`/v1/swarm`: personas and their lineage [2.x, 5.1]."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter, QueryParameter

from libs.bus.connection import Bus
from libs.bus.presence import list_present
from libs.contracts.personas import (
    CreatePersonaRequest,
    DependenciesRequest,
    ImportPersonasRequest,
    ImportPersonasResponse,
    LineageGraph,
    PersonaDependencies,
    PersonaPage,
    PersonaRuntimeState,
    PersonaStatus,
    ReapPersonaRequest,
    ReapPersonaResponse,
    SpawnPersonaRequest,
)
from libs.contracts.presence import ProcessList
from libs.contracts.registry import PersonaListQuery
from libs.contracts.spending import SpendBy, SpendPage
from services.gateway.paths import decode_segment
from services.gateway.peers import Swarm
from services.gateway.routes.common import problems

Segment = Annotated[str, PathParameter(description="A persona id as one percent-encoded segment")]
SwarmId = Annotated[str, QueryParameter(description="Only personas of this swarm")]
After = Annotated[str, QueryParameter(description="Only what follows this id")]
"""Texts, and not `None` where absent: of an optional text the framework takes `null` for none."""

Status = Annotated[PersonaStatus | None, QueryParameter(description="Only personas of this status")]
By = Annotated[SpendBy, QueryParameter(description="By what it is summed up")]
Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="At most so many")]


class SwarmRoutes(Controller):
    """Lifecycle of personas."""

    path = "/v1/swarm"
    tags = ("swarm",)

    @post(
        "/personas",
        status_code=200,
        responses=problems(400, 403, 404, 409, 413, 415, 503),
        operation_id="create",
    )
    async def create(
        self, swarm: NamedDependency[Swarm], data: JSONBody[CreatePersonaRequest]
    ) -> PersonaRuntimeState:
        """Create a root persona, or a child where `parent_id` is given."""
        return await swarm.create(data)

    @post(
        "/import",
        status_code=200,
        responses=problems(400, 403, 413, 415, 503),
        operation_id="import",
    )
    async def import_all(
        self, swarm: NamedDependency[Swarm], data: JSONBody[ImportPersonasRequest]
    ) -> ImportPersonasResponse:
        """Create those of up to 500 personas that are not there yet; asked twice, it changes nothing more.

        Parents come before their children. Each persona is created, existing or refused, whatever the others
        are; after a 503 some may have been created, and the same request may be made again.
        """
        return await swarm.import_all(data)

    @get("/personas", responses=problems(400, 503), operation_id="personas")
    async def personas(
        self,
        swarm: NamedDependency[Swarm],
        swarm_id: SwarmId = "",
        status: Status = None,
        after: After = "",
        limit: Limit = 100,
    ) -> PersonaPage:
        """List personas sorted by id."""
        query = PersonaListQuery(swarm_id=swarm_id or None, status=status, after=after or None, limit=limit)
        return await swarm.personas(query)

    @get("/personas/{persona_id:str}", responses=problems(400, 404, 503), operation_id="persona")
    async def persona(self, swarm: NamedDependency[Swarm], persona_id: Segment) -> PersonaRuntimeState:
        """Show one persona."""
        return await swarm.persona(decode_segment(persona_id))

    @post(
        "/personas/{persona_id:str}/spawn",
        status_code=200,
        responses=problems(400, 403, 404, 409, 413, 415, 503),
        operation_id="spawn",
    )
    async def spawn(
        self, swarm: NamedDependency[Swarm], persona_id: Segment, data: JSONBody[SpawnPersonaRequest]
    ) -> PersonaRuntimeState:
        """Spawn a child under a persona."""
        return await swarm.create(data.under(decode_segment(persona_id)))

    @post(
        "/personas/{persona_id:str}/reap",
        status_code=200,
        responses=problems(400, 403, 404, 413, 415, 503),
        operation_id="reap",
    )
    async def reap(
        self,
        swarm: NamedDependency[Swarm],
        persona_id: Segment,
        data: JSONBody[ReapPersonaRequest | None] = None,
    ) -> ReapPersonaResponse:
        """Reap a persona, with `cascade` everything below it too."""
        return await swarm.reap(decode_segment(persona_id), data or ReapPersonaRequest())

    @put(
        "/personas/{persona_id:str}/dependencies",
        responses=problems(400, 403, 404, 409, 413, 415, 503),
        operation_id="set_dependencies",
    )
    async def set_dependencies(
        self, swarm: NamedDependency[Swarm], persona_id: Segment, data: JSONBody[DependenciesRequest]
    ) -> PersonaDependencies:
        """Set whom a persona waits for, and who waits for it; asked twice, it changes nothing more.

        A cycle is refused with the personas on it.
        """
        return await swarm.set_dependencies(decode_segment(persona_id), data)

    @get("/spend", responses=problems(400, 404, 503), operation_id="spend")
    async def spend(
        self,
        swarm: NamedDependency[Swarm],
        by: By = SpendBy.PERSONA,
        swarm_id: SwarmId = "",
        limit: Limit = 100,
    ) -> SpendPage:
        """Sum up what thinking has cost: by persona over whole lives, else over the newest 48 hours.

        A swarm of which nobody is or was, and in which nothing was spent, is not found.
        """
        return await swarm.spend(by, swarm_id or None, limit)

    @get("/processes", responses=problems(503), operation_id="processes")
    async def processes(self, bus: NamedDependency[Bus]) -> ProcessList:
        """Show which processes are there, since when, and what each last did."""
        return ProcessList(processes=await list_present(bus))

    @get("/lineage", responses=problems(503), operation_id="lineage")
    async def lineage(self, swarm: NamedDependency[Swarm]) -> LineageGraph:
        """Show the tree of all personas, reaped ones too."""
        return await swarm.lineage()
