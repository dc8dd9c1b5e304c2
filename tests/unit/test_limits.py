"""What requests may hold [2.6]: checked where a message is decoded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.contracts.control import StartCognitionRequest, StopCognitionRequest
from libs.contracts.limits import (
    INTERVAL_CEILING_MS,
    JOURNAL_DEPTH,
    MARKER_ROOM,
    RECORD_BYTES,
    THOUGHT_BYTES,
    U32_MAX,
    U64_MAX,
    Identifier,
)
from libs.contracts.personas import (
    CreatePersonaRequest,
    PolicyRequest,
    ReapPersonaRequest,
    SpawnPersonaRequest,
)
from tests.unit.make import POLICY, policy
from tests.unit.test_tokens import CONTROLS, IDS


def decode(kind: Any, **fields: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(fields), type=kind)


def persona(**fields: Any) -> Any:
    return decode(CreatePersonaRequest, **({"name": "n", "role": "r", "charter": "c"} | fields))


def is_identifier(text: str) -> bool:
    try:
        msgspec.json.decode(msgspec.json.encode(text), type=Identifier)
    except msgspec.ValidationError:
        return False
    return True


@pytest.mark.fact("2.6")
@given(IDS)
def test_an_id_is_any_128_characters_without_control_characters(text: str) -> None:
    assert is_identifier(text)
    assert persona(persona_id=text, swarm_id=text, parent_id=text).persona_id == text


@pytest.mark.fact("2.6")
@given(st.sampled_from(CONTROLS), IDS, IDS)
def test_a_control_character_anywhere_makes_an_id_invalid(control: str, before: str, behind: str) -> None:
    for text in (before[:64] + control + behind[:63], before[:127] + control, control):
        assert not is_identifier(text)


@pytest.mark.fact("2.6")
@pytest.mark.parametrize("text", ["", ".", "..", "a\n", "\na", "a\x00", "x" * 129, "\x85", "\x7f"])
def test_these_are_no_ids(text: str) -> None:
    assert not is_identifier(text)


@pytest.mark.fact("2.6")
@pytest.mark.parametrize("text", ["...", ".a", "a.", "..a", " ", "a b", "_", "/", "x" * 128, "ü" * 128])
def test_these_are_ids(text: str) -> None:
    assert is_identifier(text)


@pytest.mark.fact("2.6")
@pytest.mark.parametrize(("field", "most"), [("name", 200), ("role", 200), ("charter", 8000)])
def test_texts_have_their_lengths_in_characters(field: str, most: int) -> None:
    assert len(getattr(persona(**{field: "\U0001f600" * most}), field)) == most
    for wrong in ("", "x" * (most + 1)):
        with pytest.raises(msgspec.ValidationError, match=field):
            persona(**{field: wrong})


@pytest.mark.fact("2.6")
def test_reasons_have_at_most_1000_characters_and_may_be_empty() -> None:
    for kind in (StopCognitionRequest, ReapPersonaRequest):
        assert decode(kind, reason="").reason == ""
        assert len(decode(kind, reason="r" * 1000).reason) == 1000
        with pytest.raises(msgspec.ValidationError, match="reason"):
            decode(kind, reason="r" * 1001)


@pytest.mark.fact("2.6")
@pytest.mark.parametrize(
    "field", ["max_spawn_depth", "max_branching_factor", "token_credits_per_minute", "cpu_credits_per_minute"]
)
def test_policy_numbers_are_within_u32(field: str) -> None:
    assert getattr(decode(PolicyRequest, **{field: U32_MAX}), field) == U32_MAX
    for wrong in (-1, U32_MAX + 1, 1.5, "4", True):
        with pytest.raises(msgspec.ValidationError, match=field):
            decode(PolicyRequest, **{field: wrong})


@pytest.mark.fact("2.6")
def test_seconds_are_within_u64() -> None:
    assert decode(PolicyRequest, idle_ttl_secs=U64_MAX).idle_ttl_secs == U64_MAX
    for wrong in (-1, U64_MAX + 1):
        with pytest.raises(msgspec.ValidationError, match="idle_ttl_secs"):
            decode(PolicyRequest, idle_ttl_secs=wrong)


@pytest.mark.fact("2.6")
def test_an_interval_is_at_most_a_day() -> None:
    decoded = decode(StartCognitionRequest, loop_interval_ms=INTERVAL_CEILING_MS)
    assert decoded.loop_interval_ms == 24 * 60 * 60 * 1000
    for wrong in (-1, INTERVAL_CEILING_MS + 1):
        with pytest.raises(msgspec.ValidationError, match="loop_interval_ms"):
            decode(StartCognitionRequest, loop_interval_ms=wrong)


@pytest.mark.fact("2.6")
def test_a_seed_persona_is_checked_like_any_other() -> None:
    with pytest.raises(msgspec.ValidationError, match="seed_persona"):
        decode(StartCognitionRequest, seed_persona={"name": "", "role": "r", "charter": "c"})


@pytest.mark.fact("5.2")
def test_unknown_fields_are_ignored() -> None:
    assert persona(colour="blue").name == "n"


def test_a_spawn_request_becomes_a_creation_under_its_parent() -> None:
    request = decode(SpawnPersonaRequest, persona_id="x", name="n", role="r", charter="c", swarm_id="s")
    created = request.under("p")
    assert (created.persona_id, created.parent_id, created.swarm_id) == ("x", "p", "s")


@pytest.mark.fact("2.1")
def test_a_partial_policy_changes_only_what_it_names() -> None:
    assert PolicyRequest(max_spawn_depth=0, share_memory=True).over(POLICY) == policy(
        max_spawn_depth=0, share_memory=True
    )
    assert PolicyRequest().over(POLICY) == POLICY


def test_the_bounds_fit_each_other() -> None:
    """A record takes a thought whole, and an owner leaves room for markers but has room itself."""
    assert THOUGHT_BYTES < RECORD_BYTES
    assert 0 < MARKER_ROOM < JOURNAL_DEPTH // 2
