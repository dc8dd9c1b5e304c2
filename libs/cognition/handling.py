"""What becomes of the inbox items that a thought takes up [A5, H15]. Pure."""

from __future__ import annotations

from datetime import datetime

import msgspec
from msgspec import Struct

from libs.cognition.answer import Answer
from libs.cognition.decision import Decision, NoDecision, parse_decision
from libs.cognition.events import make_event
from libs.cognition.text import ERROR_CHARS, RESPONSE_CHARS, trim
from libs.cognition.told import Told
from libs.contracts.inbox import (
    DropReason,
    InboxDroppedPayload,
    InboxHandledPayload,
    ItemOutcome,
    Outcome,
)
from libs.contracts.journal import ItemSettled
from libs.contracts.limits import ITEM_ATTEMPTS, THOUGHT_BYTES
from libs.contracts.thoughts import OwnEventType
from libs.contracts.work import TakenItem, WorkItem

TOO_LONG = "the message has more than the model's window has room for"
OTHERS_ANSWERED = "not said: as many as may answer have answered, or are about to"

_HEADROOM = 4 * 1024
"""For what a journal entry weighs beside its events."""

Events = list[tuple[str, msgspec.Raw]]


class Handling(Struct, frozen=True, kw_only=True):
    """What a thought made of the items that it took up."""

    taken: list[TakenItem]
    """Those in the prompt, then those too long for any prompt."""

    told: int
    """How many of them were in the prompt."""

    outcomes: list[Outcome]
    """Of each of them. `aside` is what the item has come to; `settled` leaves some for later."""

    decision: Decision | None = None
    response: str | None = None
    """What the persona says; None where it says nothing."""

    error: str | None = None
    """Why there is no decision, or why it is not carried out."""

    no_decision: str | None = None
    """What is wrong with a model's answer that is no decision."""

    @property
    def ids(self) -> list[str]:
        """Return the ids of those that were in the prompt."""
        return [one.id for one in self.taken[: self.told]]

    @property
    def is_silent(self) -> bool:
        """Whether the persona decided and says nothing."""
        return self.decision is not None and self.response is None


def handle(item: WorkItem, answer: Answer, told: Told | None) -> Handling | None:
    """Return what an answer makes of a thought's items; None where it took up none.

    Who says not what was told, as an owner that settles a thought itself, has them all told.
    """
    messages = item.inbox if told is None else told.messages
    taken = [*messages, *(told.too_long if told is not None else ())]
    if not taken:
        return None
    count = len(messages)
    if answer.blameless:
        return Handling(
            taken=taken, told=count, outcomes=[Outcome.RETURNED] * len(taken), error=answer.failure
        )
    failing = [_failing(one) for one in taken]
    if not answer.by_model:
        return Handling(taken=taken, told=count, outcomes=failing, error=answer.failure)
    if not count:
        return Handling(taken=taken, told=count, outcomes=failing, error=TOO_LONG)
    try:
        decision = parse_decision(answer.text or "")
    except NoDecision as error:
        wrong = str(error)
        return Handling(taken=taken, told=count, outcomes=failing, error=wrong, no_decision=wrong)
    said = decision.answer
    unsaid = said is not None and not any(one.may_answer for one in messages)
    return Handling(
        taken=taken,
        told=count,
        outcomes=[Outcome.HANDLED] * count + failing[count:],
        decision=decision,
        response=trim(said, RESPONSE_CHARS) if said is not None and not unsaid else None,
        error=OTHERS_ANSWERED if unsaid else TOO_LONG if failing[count:] else None,
    )


def settled(
    item: WorkItem, handling: Handling, now: datetime, weight: int
) -> tuple[list[ItemSettled], Events]:
    """Return what became of each item, and the events that tell of it, behind events of `weight` bytes.

    An item that is set aside is announced whole. No more of them are than a thought may weigh: the others
    count one failure more, and their turn comes.
    """
    outcomes = list(handling.outcomes)
    if outcomes[0] is Outcome.RETURNED:
        return _entries(handling, outcomes), []
    due = [index for index, outcome in enumerate(outcomes) if outcome is Outcome.ASIDE]
    for index in due:
        outcomes[index] = Outcome.FAILED
    room = THOUGHT_BYTES - _HEADROOM - weight - len(_handled(item, handling, outcomes, now)[1])
    dropped: Events = []
    for index in due:
        event = _dropped(item, handling, index, now)
        if len(event[1]) <= room:
            room -= len(event[1])
            outcomes[index] = Outcome.ASIDE
            dropped.append(event)
    return _entries(handling, outcomes), [_handled(item, handling, outcomes, now), *dropped]


def _failing(one: TakenItem) -> Outcome:
    return Outcome.ASIDE if one.attempts + 1 >= ITEM_ATTEMPTS else Outcome.FAILED


def _entries(handling: Handling, outcomes: list[Outcome]) -> list[ItemSettled]:
    pairs = zip(handling.taken, outcomes, strict=True)
    return [
        ItemSettled(one.sequence, outcome, one.post_id if one.may_answer else None) for one, outcome in pairs
    ]


def _handled(
    item: WorkItem, handling: Handling, outcomes: list[Outcome], now: datetime
) -> tuple[str, msgspec.Raw]:
    pairs = zip(handling.taken, outcomes, strict=True)
    payload = InboxHandledPayload(
        thought_count=item.thought_count,
        items=[ItemOutcome(id=one.id, source_id=one.source_id, outcome=outcome) for one, outcome in pairs],
        will_respond=handling.decision.will_respond if handling.decision is not None else None,
        response=handling.response,
        error=_shown(handling.error),
    )
    return _event(item, OwnEventType.INBOX_HANDLED, now, payload)


def _dropped(item: WorkItem, handling: Handling, index: int, now: datetime) -> tuple[str, msgspec.Raw]:
    one = handling.taken[index]
    payload = InboxDroppedPayload(
        id=one.id,
        domain=one.domain,
        source_id=one.source_id,
        content=one.content,
        timestamp=one.timestamp,
        priority=one.priority,
        post_id=one.post_id,
        reason=DropReason.FAILED,
        attempts=one.attempts + 1,
        error=_shown(TOO_LONG if index >= handling.told else handling.error),
    )
    return _event(item, OwnEventType.INBOX_DROPPED, now, payload)


def _event(item: WorkItem, event_type: str, now: datetime, payload: Struct) -> tuple[str, msgspec.Raw]:
    return event_type, make_event(event_type, item.persona_id, item.swarm_id, now, payload)


def _shown(error: str | None) -> str | None:
    return trim(error, ERROR_CHARS) if error is not None else None
