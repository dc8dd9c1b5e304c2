"""`/v1/cognition`: the loop, its events and its snapshots [4.x, 5.1, 5.3]."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Controller, Request, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import Parameter
from litestar.response import Stream

from libs.bus.connection import Bus
from libs.contracts import streams
from libs.contracts.control import CognitionStatus, StartCognitionRequest, StopCognitionRequest
from libs.contracts.thoughts import EventPage, MemorySnapshot, SnapshotPage
from services.gateway import event_log
from services.gateway.feed import Feed
from services.gateway.peers import Swarm
from services.gateway.routes.common import problems
from services.gateway.sse import beginning, event_stream

After = Annotated[int, Parameter(ge=0, le=2**62, description="Only what follows this sequence")]
Limit = Annotated[int, Parameter(ge=1, le=1000, description="At most so many")]

_SSE_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Cognition(Controller):
    """Control of the loop and reading of what it emits."""

    path = "/v1/cognition"
    tags = ("cognition",)

    @post("/start", status_code=200, responses=problems(400, 409, 413, 415, 503), operation_id="start")
    async def start(self, swarm: Swarm, data: StartCognitionRequest | None = None) -> CognitionStatus:
        """Start the loop, or change its interval. Answers once a scheduler ticks."""
        return await swarm.start(data or StartCognitionRequest())

    @post("/stop", status_code=200, responses=problems(400, 413, 415, 503), operation_id="stop")
    async def stop(self, swarm: Swarm, data: StopCognitionRequest | None = None) -> CognitionStatus:
        """Stop the loop. Answers once no thought of this run can appear any more."""
        return await swarm.stop(data or StopCognitionRequest())

    @get("/status", responses=problems(503), operation_id="status")
    async def status(self, swarm: Swarm) -> CognitionStatus:
        """Show the loop as it is now."""
        return await swarm.status()

    @get(
        "/stream",
        operation_id="stream",
        responses={
            200: ResponseSpec(
                data_container=str,
                description="Server-Sent Events: `cognition`, `perpetua` and `lag`",
                media_type="text/event-stream",
                generate_examples=False,
            ),
            **problems(503),
        },
    )
    async def stream(
        self, request: Request[Any, Any, Any], bus: Bus, feed: Feed, after: str | None = None
    ) -> Stream:
        """Follow the event stream. `Last-Event-ID`, or `after`, resumes behind that event."""
        there = await event_log.held(bus, streams.EVENTS)
        begin, remark = beginning(request.headers.get("last-event-id", after), there)
        return Stream(event_stream(feed, begin, remark), media_type="text/event-stream", headers=_SSE_HEADERS)

    @get("/events", responses=problems(400, 503), operation_id="events")
    async def events(self, bus: Bus, after: After = 0, limit: Limit = 100) -> EventPage:
        """Read events in stream order."""
        return await event_log.event_page(bus, after, limit)

    @get("/snapshots", responses=problems(400, 503), operation_id="snapshots")
    async def snapshots(self, bus: Bus, after: After = 0, limit: Limit = 100) -> SnapshotPage:
        """Read memory snapshots in stream order."""
        return await event_log.snapshot_page(bus, after, limit)

    @get("/snapshots/latest", responses=problems(404, 503), operation_id="latest_snapshot")
    async def latest(self, bus: Bus) -> MemorySnapshot:
        """Show the newest memory snapshot."""
        return await event_log.latest_snapshot(bus)
