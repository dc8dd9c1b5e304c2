"""Signing in to the gateway with a browser."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct


class SignIn(Struct, frozen=True, kw_only=True):
    """A token, shown once."""

    token: Annotated[str, Meta(min_length=1, max_length=512)]


class Session(Struct, frozen=True, kw_only=True):
    """What the caller may do."""

    required: bool
    """Whether this gateway asks for a token at all."""

    scope: Literal["read", "control"] | None
