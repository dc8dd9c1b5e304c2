"""Who may do what: bearer tokens, and the sessions that a browser gets for one. No I/O.

A session is a cookie that names its scope and its end and is signed with what stands for the token, so any
gateway that knows the token knows its sessions, and a token that is taken away takes its sessions with it.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable

from libs.settings.gateway import CONTROL, READ, ApiToken, Scope, digest

SESSION_S = 12 * 3600
"""Seconds until a browser must show its token again."""

_BEARER = b"bearer "
_EXPIRY_DIGITS = 12


class Access:
    """Tells the scope of what a client shows. `clock` gives seconds since 1970."""

    def __init__(self, tokens: tuple[ApiToken, ...], clock: Callable[[], float]) -> None:
        self._tokens = tokens
        self._clock = clock

    @property
    def required(self) -> bool:
        """Whether clients must show anything at all."""
        return bool(self._tokens)

    def of_token(self, token: bytes) -> Scope | None:
        """Return the scope of a token. It is compared with every one, so time tells nothing."""
        given = digest(token)
        found: Scope | None = None
        for known in self._tokens:
            if hmac.compare_digest(known.digest, given):
                found = _wider(found, known.scope)
        return found

    def of_header(self, authorization: bytes) -> Scope | None:
        """Return the scope of an `Authorization` header."""
        if authorization[: len(_BEARER)].lower() != _BEARER:
            return None
        return self.of_token(authorization[len(_BEARER) :].strip())

    def session(self, token: bytes) -> str:
        """Return a session's value for a token that has a scope."""
        scope = self.of_token(token)
        assert scope is not None
        claim = f"{scope}.{int(self._clock()) + SESSION_S}"
        return f"{claim}.{_signature(digest(token), claim)}"

    def of_session(self, value: str) -> Scope | None:
        """Return the scope of a session that has not ended."""
        claim, _, given = value.rpartition(".")
        scope, _, end = claim.partition(".")
        if scope not in (READ, CONTROL) or not given.isascii():
            return None
        if not (end.isascii() and end.isdigit() and len(end) <= _EXPIRY_DIGITS) or int(end) <= self._clock():
            return None
        signed = [
            hmac.compare_digest(_signature(known.digest, claim), given)
            for known in self._tokens
            if known.scope == scope
        ]
        if not any(signed):
            return None
        return CONTROL if scope == CONTROL else READ


def may(scope: Scope | None, wanted: Scope) -> bool:
    """Whether a scope allows what is wanted; who controls may read."""
    return scope == CONTROL or (scope == READ and wanted == READ)


def _wider(one: Scope | None, other: Scope) -> Scope:
    return CONTROL if CONTROL in (one, other) else READ


def _signature(key: bytes, claim: str) -> str:
    signed = hmac.digest(key, f"perpetua-session.{claim}".encode(), "sha256")
    return base64.urlsafe_b64encode(signed).rstrip(b"=").decode()
