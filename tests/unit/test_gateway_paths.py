"""Ids in paths are one segment each [2.6]."""

from __future__ import annotations

import tracemalloc
from urllib.parse import quote

import pytest
from hypothesis import example, given

from libs.contracts.refusals import Invalid
from services.gateway.paths import canonical, decode_segment
from tests.unit.test_tokens import IDS


@pytest.mark.fact("2.6")
@given(IDS)
@example("a/b")
@example("%2F")
@example("a b?c#d")
@example("..a")
def test_an_id_comes_through_a_path_as_it_is(identifier: str) -> None:
    raw = f"/v1/swarm/personas/{quote(identifier, safe='')}/reap".encode()
    segments = canonical(raw).split("/")
    assert segments[:4] == ["", "v1", "swarm", "personas"]
    assert segments[5:] == ["reap"], "still one segment"
    assert decode_segment(segments[4]) == identifier


@pytest.mark.fact("2.6")
@pytest.mark.parametrize("raw", [b"/p/a%2fb", b"/p/a%2Fb"])
def test_an_encoded_slash_stays_inside_its_segment(raw: bytes) -> None:
    assert canonical(raw) == "/p/a%2Fb"


def test_every_spelling_of_a_path_is_one_canonical_path() -> None:
    assert canonical(b"/v1/%63ognition/status?x=1") == "/v1/cognition/status"
    assert canonical(b"/a~b-c._d") == canonical(b"/%61%7Eb%2Dc%2E%5Fd") == "/a~b-c._d"
    assert canonical(canonical("/ü/ /%".encode()).encode()) == canonical("/ü/ /%".encode())
    assert canonical(b"/a//b/") == "/a//b/"


def test_paths_that_were_asked_for_take_no_memory() -> None:
    """They are looked at before it is known who asks."""
    tracemalloc.start()
    try:
        for number in range(200):
            canonical(b"/%d/" % number + b"!" * 10_000)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1 << 20


@pytest.mark.fact("5.2")
def test_a_segment_that_is_not_utf_8_is_invalid() -> None:
    with pytest.raises(Invalid):
        decode_segment(canonical(b"%FF"))


@pytest.mark.fact("2.6")
@pytest.mark.parametrize("raw", [b"%0A", b"a%00", b".", b"%2E%2E", b"x" * 129, b"%C2%85"])
def test_a_segment_that_no_persona_can_have_is_invalid(raw: bytes) -> None:
    with pytest.raises(Invalid):
        decode_segment(canonical(raw))
