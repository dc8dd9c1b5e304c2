"""Ids as NATS subject tokens and KV keys, reversibly.

A token keeps ASCII letters, digits, `-` and `_`; every other UTF-8 byte becomes `=XX` (two upper-case
hexadecimal digits). `_` alone stands for "none", so the id `_` is written `=5F`.
"""

from __future__ import annotations

import re
import zlib

from libs.contracts.limits import SHARDS

NONE = "_"
"""The token of an absent id."""

_SAFE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPE = re.compile(rb"=([0-9A-F]{2})")
_SAFE_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def encode(identifier: str | None) -> str:
    """Return the token of an id; `None` gives `_`."""
    if identifier is None:
        return NONE
    if identifier == NONE:
        return "=5F"
    if _SAFE.fullmatch(identifier):
        return identifier
    return "".join(chr(b) if b in _SAFE_BYTES else f"={b:02X}" for b in identifier.encode())


def decode(token: str) -> str | None:
    """Return the id of a token made by `encode`; `_` gives `None`."""
    if token == NONE:
        return None
    return _ESCAPE.sub(lambda m: bytes([int(m[1], 16)]), token.encode()).decode()


def shard_of(persona_id: str) -> int:
    """Return the shard, 0 to 63, that owns a persona: CRC-32 of the id's UTF-8 bytes modulo 64."""
    return zlib.crc32(persona_id.encode()) % SHARDS
