"""`/v1/cognition`: the loop, its events and its snapshots [4.x, 5.1, 5.3]."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter, JSONBody, QueryParameter

from libs.bus.connection import Bus
from libs.contracts import streams
from libs.contracts.control import CognitionStatus, StartCognitionRequest, StopCognitionRequest
from libs.contracts.thoughts import EventPage, MemorySnapshot, SnapshotPage, SnapshotScope
from services.gateway import event_log
from services.gateway.feed import Feed
from services.gateway.peers import Swarm
from services.gateway.routes.common import problems
from services.gateway.sse import EventStream, beginning

After = Annotated[int, QueryParameter(ge=0, le=2**62, description="Only what follows this sequence")]
PersonaId = Annotated[str, QueryParameter(max_length=128, description="Only events of this persona")]
SwarmId = Annotated[str, QueryParameter(max_length=128, description="Only snapshots of this swarm")]
Scope = Annotated[
    SnapshotScope | None,
    QueryParameter(
        name="scope", description="`persona`: of one persona each; `swarm`: roll-ups of what personas share"
    ),
]
LastEventId = Annotated[
    str | None,
    HeaderParameter(name="Last-Event-ID", description="The last event seen; a browser sends it"),
]
StreamAfter = Annotated[
    str | None,
    QueryParameter(description="The same as `Last-Event-ID`, for clients without it; 0: the oldest"),
]
Heartbeat = Annotated[
    bool,
    QueryParameter(
        description="Send signs of life as `event: heartbeat`, the first at once, in the place of comments,"
        " which a browser hides; the data is the seconds until the next one"
    ),
]
Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="At most so many")]


class Cognition(Controller):
    """Control of the loop and reading of what it emits."""

    path = "/v1/cognition"
    tags = ("cognition",)

    @post("/start", status_code=200, responses=problems(400, 403, 409, 413, 415, 503), operation_id="start")
    async def start(
        self, swarm: NamedDependency[Swarm], data: JSONBody[StartCognitionRequest | None] = None
    ) -> CognitionStatus:
        """Start the loop, or change its interval. Answers once a scheduler ticks."""
        return await swarm.start(data or StartCognitionRequest())

    @post("/stop", status_code=200, responses=problems(400, 403, 413, 415, 503), operation_id="stop")
    async def stop(
        self, swarm: NamedDependency[Swarm], data: JSONBody[StopCognitionRequest | None] = None
    ) -> CognitionStatus:
        """Stop the loop. Answers once no thought of this run can appear any more."""
        return await swarm.stop(data or StopCognitionRequest())

    @get("/status", responses=problems(503), operation_id="status")
    async def status(self, swarm: NamedDependency[Swarm]) -> CognitionStatus:
        """Show the loop as it is now."""
        return await swarm.status()

    @get(
        "/stream",
        operation_id="stream",
        responses={
            200: ResponseSpec(
                data_container=str,
                description="Server-Sent Events: `cognition`, `perpetua` and `lag`; `heartbeat` for who asks",
                media_type="text/event-stream",
                generate_examples=False,
            ),
            **problems(400, 503),
        },
    )
    async def stream(
        self,
        bus: NamedDependency[Bus],
        feed: NamedDependency[Feed],
        last_event_id: LastEventId = None,
        after: StreamAfter = None,
        heartbeat: Heartbeat = False,
    ) -> EventStream:
        """Follow the event stream. `Last-Event-ID`, or `after`, resumes behind that event."""
        feed.check_room()
        there = await event_log.held(bus, streams.EVENTS)
        begin, remark = beginning(after if last_event_id is None else last_event_id, there)
        return EventStream(feed, begin, remark, heartbeat=heartbeat)

    @get("/events", responses=problems(400, 503), operation_id="events")
    async def events(
        self, bus: NamedDependency[Bus], after: After = 0, limit: Limit = 100, persona_id: PersonaId = ""
    ) -> EventPage:
        """Read events in stream order, all of them or one persona's."""
        return await event_log.event_page(bus, after, limit, persona_id or None)

    @get("/snapshots", responses=problems(400, 503), operation_id="snapshots")
    async def snapshots(
        self,
        bus: NamedDependency[Bus],
        after: After = 0,
        limit: Limit = 100,
        of: Scope = None,
        swarm_id: SwarmId = "",
    ) -> SnapshotPage:
        """Read memory snapshots in stream order, of all, of one swarm or of one scope."""
        return await event_log.snapshot_page(bus, after, limit, of, swarm_id or None)

    @get("/snapshots/latest", responses=problems(404, 503), operation_id="latest_snapshot")
    async def latest(self, bus: NamedDependency[Bus]) -> MemorySnapshot:
        """Show the newest memory snapshot."""
        return await event_log.latest_snapshot(bus)
