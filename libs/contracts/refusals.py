"""Requests that are refused, with the reference's own words [2.4, 2.8, 4.1, 5.2].

Refusal
├── Invalid            400  the request contradicts its schema
├── LimitReached       400  branching, depth, or what one message of the bus may weigh
├── LoopDisabled       400
├── NotFound           404
├── Conflict           409  id taken, parent reaped
└── Unavailable        503  a peer did not answer; try again after `retry_after`
"""

from __future__ import annotations

from msgspec import Struct


class RefusalBody(Struct, frozen=True, array_like=True):
    """A refusal as it crosses the bus."""

    status: int
    detail: str


class Refusal(Exception):
    """A request that cannot be granted. `detail` is for people, `status` is the HTTP status."""

    status = 500
    title = "Refused"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Invalid(Refusal):
    """The request does not fit its schema."""

    status = 400
    title = "Invalid request"


class LimitReached(Refusal):
    """A bound stands in the way: of the parent's policy, or of the bus."""

    status = 400
    title = "Limit reached"

    @classmethod
    def branching(cls, parent_id: str, limit: int) -> LimitReached:
        """The parent has as many living children as its policy allows."""
        return cls(f"Parent {parent_id} reached branching limit {limit}")

    @classmethod
    def depth(cls, depth: int, limit: int) -> LimitReached:
        """The child would live deeper than the parent's policy allows."""
        return cls(f"Spawn depth {depth} exceeds limit {limit}")

    @classmethod
    def message(cls, what: str, why: str) -> LimitReached:
        """A question or its answer is more than the broker takes in one message."""
        return cls(f"The {what} is too large for one message ({why}): ask for less")


class LoopDisabled(Refusal):
    """The loop is switched off by its setting."""

    status = 400
    title = "Cognition disabled"

    def __init__(
        self, detail: str = "Perpetual cognition is disabled. Set CODETETHER_COGNITION_ENABLED=true."
    ) -> None:
        super().__init__(detail)


class NotFound(Refusal):
    """There is nothing of that id."""

    status = 404
    title = "Not found"

    @classmethod
    def persona(cls, persona_id: str) -> NotFound:
        """No such persona."""
        return cls(f"Persona not found: {persona_id}")

    @classmethod
    def parent(cls, parent_id: str) -> NotFound:
        """No such parent."""
        return cls(f"Parent persona not found: {parent_id}")

    @classmethod
    def swarm(cls, swarm_id: str) -> NotFound:
        """No persona of the swarm lives."""
        return cls(f"No persona of swarm {swarm_id} lives")

    @classmethod
    def unknown_swarm(cls, swarm_id: str) -> NotFound:
        """Nobody is of the swarm, or was, and nothing is known to have been spent in it."""
        return cls(f"Swarm not found: {swarm_id}")

    @classmethod
    def sent(cls, persona_id: str, item_id: str) -> NotFound:
        """Nothing was sent under that id, as far as it is remembered."""
        return cls(f"Nothing was sent to persona {persona_id} under the id {item_id}")

    @classmethod
    def snapshot(cls) -> NotFound:
        """The snapshot stream is empty."""
        return cls("No snapshots available")


class Conflict(Refusal):
    """The request contradicts what is."""

    status = 409
    title = "Conflict"

    @classmethod
    def taken(cls, persona_id: str) -> Conflict:
        """The id is in use, or was."""
        return cls(f"Persona id already exists: {persona_id}")

    @classmethod
    def another(cls, persona_id: str, fields: list[str]) -> Conflict:
        """The id belongs to a persona that differs from the one described."""
        return cls(f"Persona {persona_id} is there already with another {', '.join(fields)}")

    @classmethod
    def was_reaped(cls, persona_id: str) -> Conflict:
        """The id belonged to a persona that lives no more."""
        return cls(f"Persona {persona_id} was reaped; its id is not used again")

    @classmethod
    def reaped(cls, persona_id: str) -> Conflict:
        """The persona lives no more."""
        return cls(f"Persona {persona_id} is reaped; nothing reaches it any more")

    @classmethod
    def cycle(cls, persona_ids: list[str]) -> Conflict:
        """These would wait for each other for ever: each for the next, the last for the first."""
        return cls(f"Personas would wait for each other: {' → '.join([*persona_ids, persona_ids[0]])}")

    @classmethod
    def dependency_reaped(cls, persona_id: str) -> Conflict:
        """Who is to be waited for lives no more."""
        return cls(f"Persona {persona_id} is reaped; it thinks no more, so nobody can wait for it")

    @classmethod
    def too_many_dependencies(cls, persona_id: str, limit: int) -> Conflict:
        """The persona would wait for more than may be."""
        return cls(f"Persona {persona_id} would wait for more than {limit} personas")

    @classmethod
    def parent_reaped(cls, parent_id: str) -> Conflict:
        """The parent lives no more."""
        return cls(f"Parent persona {parent_id} is reaped")


class Unavailable(Refusal):
    """A peer service did not answer in time. Nothing is known to be wrong with the request."""

    status = 503
    title = "Service unavailable"

    def __init__(self, detail: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        """Seconds after which another try makes sense."""


_BY_STATUS: dict[int, type[Refusal]] = {400: Invalid, 404: NotFound, 409: Conflict}


def rebuilt(body: RefusalBody) -> Refusal:
    """Return the refusal that has crossed the bus."""
    kind = Unavailable if body.status == Unavailable.status else _BY_STATUS.get(body.status, Refusal)
    return kind(body.detail)
