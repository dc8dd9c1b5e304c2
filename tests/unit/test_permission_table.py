"""The table of permissions has a place for every subject: a new one without users is found here."""

from __future__ import annotations

import inspect

import pytest

from libs.contracts import streams, subjects
from libs.contracts.permissions import ADMIN, READER, SENDER, SERVICES, inbox, permissions
from libs.contracts.streams import StreamBounds

BY_THE_BROKER = {subjects.EVENTS, subjects.SNAPSHOTS, subjects.WORK_EXHAUSTED}
"""Published by the broker itself: stored events and its advisories."""

BY_OTHERS = {
    "event", "events_of_swarm", "events_of_persona", "captures_of", "inboxes", "send", "send_swarm",
    "snapshots_of", "roll_ups_of",
}  # fmt: skip
"""Functions whose subjects only senders publish, or that make a filter."""

BY_SENDERS = {subjects.SEND, subjects.SEND_SWARM}

ARGUMENTS = {
    "shard": 3, "page": 1, "endpoint": "create", "stream": streams.THINK, "swarm_id": "s", "persona_id": "p",
    "event_type": "thought_generated", "thought_count": 1, "instance": "i", "proposal_id": "x",
    "post_id": "x", "item_id": "x",
}  # fmt: skip


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject is one of a pattern's."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, given = wanted[:-1], given[: len(wanted) - 1] if len(given) >= len(wanted) else []
    return len(wanted) == len(given) and all(w in ("*", g) for w, g in zip(wanted, given, strict=True))


def of_constants() -> set[str]:
    named = [value for name, value in vars(subjects).items() if name.isupper() and isinstance(value, str)]
    covered = {subjects.REGISTRY, subjects.DEAD_LETTERS, subjects.CRASHED}  # by functions, which say more
    return {value for value in named if "." in value} - BY_THE_BROKER - BY_SENDERS - covered


def of_functions() -> dict[str, str]:
    """A subject of each function, by the function's name."""
    found = {}
    for name, make in inspect.getmembers(subjects, inspect.isfunction):
        if make.__module__ == subjects.__name__ and not name.startswith("_"):
            parameters = inspect.signature(make).parameters
            found[name] = make(*(ARGUMENTS.get(p, "scheduler") for p in parameters))
    return found


def publishers(subject: str) -> set[str]:
    return {user for user, may in permissions().items() if any(matches(p, subject) for p in may.publish)}


@pytest.mark.parametrize("pattern", sorted(of_constants()))
def test_each_named_subject_is_somebody_s_to_publish(pattern: str) -> None:
    assert publishers(pattern.replace("*", "x").replace(">", "x.y.z")) & {*SERVICES}


@pytest.mark.parametrize("name", sorted(of_functions().keys() - BY_OTHERS))
def test_each_subject_that_is_made_is_somebody_s_to_publish(name: str) -> None:
    assert publishers(of_functions()[name]) & {*SERVICES}


def test_nobody_publishes_what_the_broker_does() -> None:
    for pattern in BY_THE_BROKER:
        assert publishers(pattern.replace(">", "s.p.t")) == set()


@pytest.mark.parametrize("name", [spec.name for spec in streams.specs(StreamBounds())])
def test_no_service_makes_changes_or_deletes_a_stream(name: str) -> None:
    for verb in ("CREATE", "UPDATE", "DELETE"):
        assert publishers(f"$JS.API.STREAM.{verb}.{name}") == {ADMIN}


def test_thinkers_and_readers_cannot_have_the_broker_write_for_them() -> None:
    """A push consumer delivers wherever its maker says."""
    for stream in (spec.name for spec in streams.specs(StreamBounds())):
        makers = publishers(f"$JS.API.CONSUMER.CREATE.{stream}.x")
        assert makers & {"thinker", READER} == set()


def test_nobody_listens_to_everything_or_to_another_s_inbox() -> None:
    for user, may in permissions().items():
        for pattern in may.subscribe:
            assert not pattern.startswith((">", "*", "$JS.API", "$KV", "j.", "think."))
        for other in permissions():
            if inbox(other) != inbox(user):
                assert not any(matches(p, f"{inbox(other)}.x.y") for p in may.subscribe)


def test_no_stream_stores_what_a_service_answers() -> None:
    """The broker delivers what is stored wherever a consumer's maker says, as what it is stored under."""
    stored = [
        subject.replace("*", "x").replace(">", "x.y")
        for spec in streams.specs(StreamBounds())
        for subject in (*spec.config["subjects"], spec.config.get("subject_transform", {}).get("dest", ""))
    ]
    listened = {pattern for service in SERVICES for pattern in permissions()[service].subscribe}
    answered = listened - {subjects.EVENTS} - {f"{inbox(service)}.>" for service in SERVICES}
    assert {subjects.SEND, subjects.SEND_SWARM} <= answered
    assert [(p, s) for p in answered for s in stored if matches(p, s)] == []


def test_senders_may_send_and_nothing_else() -> None:
    for subject in BY_SENDERS:
        assert publishers(subject.replace("*", "p")) == {SENDER, ADMIN}
    assert [subject for subject in permissions()[SENDER].publish if subject not in BY_SENDERS] == []
