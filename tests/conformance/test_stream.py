"""Facts 5.3 and 5.4: the event stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from tests.conformance.test_personas import create, public
from tests.support.eventually import eventually_sync
from tests.support.sse import Frame, Stream
from tests.support.swarm import Swarm, swarm


def events(stream: Stream, count: int) -> list[Frame]:
    """The next so many events, comments left out."""
    return list(islice((f for f in stream.frames() if f.name != ":"), count))


def last_sequence(running: Swarm) -> int:
    return int(running.get("/v1/cognition/events?limit=1")["last_sequence"])


def opened(running: Swarm, query: str = "", **headers: str) -> Stream:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    stream = Stream(f"{running.url}/v1/cognition/stream{query}", named)
    head = stream.head()
    assert head.startswith("HTTP/1.1 200")
    assert "text/event-stream" in head
    return stream


def behind(place: int | None, frame: Frame) -> int:
    """The place after a frame, which is the next one, or a lag that says exactly what is missing."""
    assert frame.identifier is not None
    step = int(frame.data.removeprefix("skipped ")) if frame.name == "lag" else 1
    assert place is None or frame.identifier == place + step
    return frame.identifier


@pytest.mark.fact("5.3")
@pytest.mark.fact("3.14")
def test_without_an_id_the_stream_begins_with_the_next_event(quiet: Swarm) -> None:
    before = public(quiet)
    with opened(quiet) as stream:
        frames = stream.frames()
        assert next(frames).name == ":"
        state = create(quiet, f"live-{before}")
        frame = next(f for f in frames if f.name != ":")
    assert (frame.name, frame.identifier) == ("cognition", before + 1)
    event = json.loads(frame.data)
    assert (event["event_type"], event["persona_id"]) == ("persona_spawned", state["identity"]["id"])


@pytest.mark.fact("5.3")
@pytest.mark.parametrize("way", ["header", "query"])
def test_a_last_event_id_resumes_behind_it_with_nothing_lost_or_repeated(quiet: Swarm, way: str) -> None:
    for n in range(5):
        create(quiet, f"resume-{way}-{n}-{last_sequence(quiet)}")
    after = public(quiet) - 3
    stream = opened(quiet, Last_Event_ID=str(after)) if way == "header" else opened(quiet, f"?after={after}")
    with stream:
        frames = events(stream, 3)
    assert [f.identifier for f in frames] == [after + 1, after + 2, after + 3]
    stored = {e["sequence"]: e for e in quiet.events(after)}
    for frame in frames:
        assert frame.identifier is not None
        expected = {k: v for k, v in stored[frame.identifier].items() if k != "sequence"}
        assert json.loads(frame.data) == expected


@pytest.mark.fact("5.3")
def test_the_header_wins_over_the_query_as_browsers_need_when_they_reconnect(quiet: Swarm) -> None:
    last = public(quiet)
    with opened(quiet, "?after=0", Last_Event_ID=str(last - 1)) as stream:
        assert events(stream, 1)[0].identifier == last


@pytest.mark.fact("5.3")
@pytest.mark.parametrize("bad", ["abc", "-1", "1.5", "99999999999", "9" * 40, ""])
def test_an_unusable_or_future_id_is_live_after_a_comment_that_says_so(quiet: Swarm, bad: str) -> None:
    before = public(quiet)
    with opened(quiet, Last_Event_ID=bad) as stream:
        frames = stream.frames()
        first = next(frames)
        assert first.name == ":"
        assert "live from here" in first.data
        create(quiet, f"bad-{before}")
        assert next(f for f in frames if f.name != ":").identifier == before + 1


@pytest.fixture(scope="module")
def small() -> Iterator[Swarm]:
    """A swarm whose stream holds 32 events only, the smallest bound."""
    with swarm(settings={"LOOP_INTERVAL_MS": "100", "MAX_EVENTS": "5"}) as running:
        for n in range(5):
            create(running, f"p{n}")
        eventually_sync(lambda: last_sequence(running) > 150, 60)
        yield running


@pytest.mark.fact("5.3")
@pytest.mark.fact("1.1")
def test_evicted_events_are_told_by_one_lag_with_the_exact_number(small: Swarm) -> None:
    with opened(small, Last_Event_ID="10") as stream:
        frames = events(stream, 60)
    assert [f.name for f in frames[:2]] == ["lag", "cognition"]
    place = 10
    for frame in frames:
        place = behind(place, frame)
    held = small.get("/v1/cognition/status")["events_buffered"]
    assert held == 32, "MAX_EVENTS has a floor of 32"


@pytest.mark.fact("5.3")
def test_zero_begins_with_the_oldest_event_held_without_a_lag(small: Swarm) -> None:
    with opened(small, Last_Event_ID="0") as stream:
        frames = events(stream, 40)
    assert frames[0].name == "cognition"
    place = behind(None, frames[0])
    assert place > 100
    for frame in frames[1:]:
        place = behind(place, frame)


@pytest.mark.fact("5.3")
@pytest.mark.timeout(120)
def test_a_live_client_that_reads_nothing_is_told_exactly_what_it_missed(small: Swarm) -> None:
    """Its sockets fill, the stream evicts what it has not taken; what it reads in the end adds up."""
    with opened(small) as stream:
        begin = last_sequence(small)
        eventually_sync(lambda: last_sequence(small) > begin + 2500, 90)
        place: int | None = None
        lags = 0
        for frame in stream.frames():
            if frame.name == ":":
                continue
            lags += frame.name == "lag"
            place = behind(place, frame)
            if place > begin + 2500:
                break
    assert lags >= 1


@pytest.mark.fact("5.3")
@pytest.mark.timeout(90)
def test_a_quiet_stream_carries_a_comment_every_15_seconds_or_a_heartbeat_for_who_asks(quiet: Swarm) -> None:
    """The first heartbeat comes at once. It has no id, so that a browser resumes behind the last event."""
    import time

    public(quiet)
    began = time.monotonic()
    with opened(quiet) as plain, opened(quiet, "?heartbeat=true") as asking:
        comments, beats = plain.frames(), asking.frames()
        assert [next(comments).name, next(beats).name] == [":", ":"]
        first = next(beats)
        assert time.monotonic() - began < 10
        assert (first.name, first.data, first.identifier) == ("heartbeat", "15", None)
        assert next(comments).name == ":"
        assert next(beats) == first
        assert 14 < time.monotonic() - began < 25


@pytest.mark.fact("5.2")
def test_a_heartbeat_that_is_neither_wanted_nor_not_is_refused_by_name(quiet: Swarm) -> None:
    answer = quiet.http("GET", "/v1/cognition/stream?heartbeat=often")
    assert answer.status == 400
    assert "heartbeat" in answer.json["detail"]


@pytest.mark.fact("5.1")
def test_events_can_be_read_in_pages_that_tell_what_was_skipped(small: Swarm) -> None:
    page: dict[str, Any] = small.get("/v1/cognition/events?after=5&limit=10")
    sequences = [entry["sequence"] for entry in page["events"]]
    assert sequences == list(range(sequences[0], sequences[0] + 10))
    assert page["skipped"] == sequences[0] - 6
    assert page["next_after"] == sequences[-1]
    rest = small.get(f"/v1/cognition/events?after={page['last_sequence'] + 1000}")
    assert (rest["events"], rest["skipped"]) == ([], 0)


@pytest.mark.fact("5.1")
@pytest.mark.fact("5.2")
def test_no_snapshot_yet_is_a_404_and_then_the_newest_one_is_shown(quiet: Swarm, small: Swarm) -> None:
    answer = quiet.http("GET", "/v1/cognition/snapshots/latest")
    assert (answer.status, answer.json["detail"]) == (404, "No snapshots available")
    before = small.get("/v1/cognition/snapshots?limit=1000")["snapshots"]
    latest = small.get("/v1/cognition/snapshots/latest")
    assert latest["metadata"]["phase"] == "compress"
    after = {
        one["snapshot"]["id"]: one["sequence"]
        for one in small.get("/v1/cognition/snapshots?limit=1000")["snapshots"]
    }
    assert after[latest["id"]] >= before[-1]["sequence"]
    assert len(before) <= 128
