"""Ids as NATS tokens and KV keys [2.6]."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.contracts import subjects
from libs.contracts.limits import SHARDS
from libs.contracts.tokens import decode, encode, shard_of

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
IDS = st.text(st.characters(codec="utf-8", exclude_characters=CONTROLS), min_size=1, max_size=128).filter(
    lambda text: text not in (".", "..")
)

KV_KEY = re.compile(r"[-/_=.a-zA-Z0-9]+")
"""What nats-py and the servers accept as a key of a bucket."""


@pytest.mark.fact("2.6")
@given(IDS)
@example("_")
@example("=5F")
@example("=")
@example("a.b")
@example("*")
@example(">")
@example("id with blanks")
@example("\U0001f600" * 128)
def test_every_id_comes_back_from_its_token(identifier: str) -> None:
    assert decode(encode(identifier)) == identifier


@pytest.mark.fact("2.6")
@given(IDS)
@example(".foo.")
@example("$KV.x")
def test_every_id_becomes_one_nats_token_and_a_valid_kv_key(identifier: str) -> None:
    token = encode(identifier)
    assert KV_KEY.fullmatch(token)
    assert "." not in token, "one token, not several"
    assert token != "_", "that stands for no id"
    assert subjects.event(identifier, identifier, "t").split(".") == ["perpetua", "events", token, token, "t"]


@pytest.mark.fact("2.6")
@given(IDS, IDS)
def test_different_ids_have_different_tokens(one: str, other: str) -> None:
    assert (encode(one) == encode(other)) == (one == other)


@pytest.mark.fact("2.6")
def test_a_safe_id_is_its_own_token() -> None:
    assert encode("root-thinker_7") == "root-thinker_7"
    assert encode("3fa85f64-5717-4562-b3fc-2c963f66afa6") == "3fa85f64-5717-4562-b3fc-2c963f66afa6"


def test_no_id_is_an_underscore_and_the_id_underscore_is_escaped() -> None:
    assert encode(None) == "_"
    assert decode("_") is None
    assert encode("_") == "=5F"
    assert encode("__") == "__"


def test_the_escape_is_two_upper_case_hexadecimal_digits_a_byte() -> None:
    assert encode("a.b") == "a=2Eb"
    assert encode("é") == "=C3=A9"
    assert encode("=41") == "=3D41"


@given(IDS)
def test_every_id_has_one_of_the_shards(identifier: str) -> None:
    assert 0 <= shard_of(identifier) < SHARDS


def test_the_shard_of_an_id_never_changes() -> None:
    """Journals and checkpoints on disk rest on it. 0xCBF43926 is the check value of CRC-32."""
    assert shard_of("123456789") == 0xCBF43926 % 64 == 38
    assert [shard_of(i) for i in ("root-thinker", "a", "ü", "persona-7")] == [41, 3, 21, 18]


def test_ids_spread_over_all_shards() -> None:
    sizes = [0] * SHARDS
    for number in range(6400):
        sizes[shard_of(f"persona-{number}")] += 1
    assert min(sizes) > 50
    assert max(sizes) < 200
