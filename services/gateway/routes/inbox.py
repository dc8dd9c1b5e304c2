"""`/v1/swarm/…/inbox`: sending to personas, and what they hold [A1, A2, A5]."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter, QueryParameter

from libs.contracts.inbox import Accepted, SendRequest, SwarmAccepted, SwarmSendRequest
from libs.contracts.lives import InboxReply
from services.gateway.paths import decode_item_id, decode_segment
from services.gateway.peers import Swarm
from services.gateway.routes.common import problems
from services.gateway.sending import Sending

Segment = Annotated[str, PathParameter(description="A persona id as one percent-encoded segment")]
SwarmSegment = Annotated[str, PathParameter(description="A swarm id as one percent-encoded segment")]
Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="At most so many")]
ItemSegment = Annotated[str, PathParameter(description="The `id` with which it was sent")]


class InboxRoutes(Controller):
    """What is sent to personas."""

    path = "/v1/swarm"
    tags = ("inbox",)

    @post(
        "/personas/{persona_id:str}/inbox",
        status_code=200,
        responses=problems(400, 403, 404, 409, 413, 415, 503),
        operation_id="send",
    )
    async def send(
        self, sending: NamedDependency[Sending], persona_id: Segment, data: JSONBody[SendRequest]
    ) -> Accepted:
        """Send something to a persona. Answered once it is stored: it will reach the persona.

        With an `id` of yours the same request may be made again, whatever became of the first one.
        """
        return await sending.to_persona(decode_segment(persona_id), data)

    @get("/personas/{persona_id:str}/inbox", responses=problems(400, 404, 503), operation_id="inbox")
    async def inbox(
        self, swarm: NamedDependency[Swarm], persona_id: Segment, limit: Limit = 100
    ) -> InboxReply:
        """Show what waits in a persona's inbox, the best first, and how much there is in all."""
        return await swarm.inbox(decode_segment(persona_id), limit)

    @get(
        "/personas/{persona_id:str}/inbox/{item_id:str}",
        responses=problems(400, 404, 503),
        operation_id="sent",
    )
    async def sent(
        self, sending: NamedDependency[Sending], persona_id: Segment, item_id: ItemSegment
    ) -> Accepted:
        """Say that something was sent under an `id` of yours, if it was; of the newest 100 000."""
        return await sending.accepted(decode_segment(persona_id), decode_item_id(item_id))

    @post(
        "/swarms/{swarm_id:str}/inbox",
        status_code=200,
        responses=problems(400, 403, 404, 413, 415, 503),
        operation_id="send_to_swarm",
    )
    async def send_to_swarm(
        self, sending: NamedDependency[Sending], swarm_id: SwarmSegment, data: JSONBody[SwarmSendRequest]
    ) -> SwarmAccepted:
        """Send something to each living persona of a swarm, of whom `answers_most` may answer."""
        return await sending.to_swarm(decode_segment(swarm_id, "swarm"), data)
