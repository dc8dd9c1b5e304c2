"""What the broker says, as errors that tell whether trying again helps."""

from __future__ import annotations

import nats.errors
import pytest

from libs.bus.errors import PublishRefused, SubjectFull, WrongLastSequence, refused
from libs.bus.follow import delivery_metadata
from libs.bus.telemetry import BusFault
from libs.contracts.refusals import (
    Conflict,
    Invalid,
    LimitReached,
    LoopDisabled,
    NotFound,
    Refusal,
    RefusalBody,
    Unavailable,
    rebuilt,
)


@pytest.mark.parametrize("code", [10071, 10164])
def test_a_wrong_last_sequence_says_which_it_is(code: int) -> None:
    error = refused("j.1", code, "wrong last sequence: 17")
    assert isinstance(error, WrongLastSequence)
    assert error.actual == 17


@pytest.mark.parametrize("words", ["wrong last sequence", "wrong last sequence: none", ""])
def test_a_wrong_last_sequence_without_a_number_says_none(words: str) -> None:
    error = refused("j.1", 10071, words)
    assert isinstance(error, WrongLastSequence)
    assert error.actual is None


@pytest.mark.parametrize(
    "words", ["maximum messages per subject exceeded", "maximum messages exceeded", "maximum bytes exceeded"]
)
def test_a_full_subject_or_stream_is_known_by_its_words(words: str) -> None:
    assert isinstance(refused("j.1", 10077, words), SubjectFull)


def test_any_other_refusal_keeps_the_broker_s_words() -> None:
    error = refused("think.1", 503, "no stream listens on it")
    assert type(error) is PublishRefused
    assert str(error) == "publish to think.1 refused: no stream listens on it (503)"


@pytest.mark.parametrize(
    ("reply", "place"),
    [
        ("$JS.ACK.THINK.thinkers.2.105.98.1700000000000000000.7", (2, 105, 98, 7)),
        ("$JS.ACK.hub.ACCOUNT.THINK.thinkers.3.105.98.1700000000000000000.7", (3, 105, 98, 7)),
        ("$JS.ACK._.ACCOUNT.THINK.thinkers.3.105.98.1700000000000000000.7.token", (3, 105, 98, 7)),
    ],
)
def test_the_reply_of_a_delivery_tells_its_place(reply: str, place: tuple[int, ...]) -> None:
    found = delivery_metadata(reply)
    assert (found.deliveries, found.stream_sequence, found.consumer_sequence, found.pending) == place


def test_faults_of_the_client_have_kinds() -> None:
    slow = nats.errors.SlowConsumerError(subject="s", reply="", sid=1, sub=None)  # type: ignore[arg-type]
    assert (BusFault.of(slow).kind, BusFault.of(slow).subject) == ("slow_consumer", "s")
    denied = nats.errors.Error("nats: 'Permissions Violation for Publish to \"x\"'")
    assert BusFault.of(denied).kind == "denied"
    assert BusFault.of(ConnectionRefusedError()).kind == "connection"
    assert BusFault.of(ConnectionRefusedError()).text == "ConnectionRefusedError", "never an empty line"


@pytest.mark.fact("5.2")
@pytest.mark.parametrize(
    "refusal",
    [
        Invalid("x"),
        LimitReached.depth(3, 2),
        LoopDisabled(),
        NotFound.persona("p"),
        Conflict.taken("p"),
        Unavailable("later"),
    ],
)
def test_a_refusal_keeps_status_and_words_over_the_bus(refusal: Refusal) -> None:
    again = rebuilt(RefusalBody(refusal.status, refusal.detail))
    assert (again.status, again.detail) == (refusal.status, refusal.detail)


def test_a_refusal_that_may_be_repeated_says_when() -> None:
    again = rebuilt(RefusalBody(503, "later"))
    assert isinstance(again, Unavailable)
    assert again.retry_after == 1
