"""What every request passes before it is routed: names, rates, tokens; and what every answer carries.

Everything needs a token that is not named here as open, where there are tokens at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import msgspec
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from libs.contracts.refusals import Refusal
from libs.settings.gateway import CONTROL, READ
from libs.settings.gateway import Scope as TokenScope
from services.gateway.access import Access, may
from services.gateway.hosts import is_from_elsewhere, is_ours
from services.gateway.problems import (
    CrossSite,
    Forbidden,
    Misdirected,
    TooManyRequests,
    Unauthorized,
    written,
)
from services.gateway.rates import Rates, client_of

SESSION_PATH = "/v1/session"
COOKIE = "perpetua_session"
SECURE_COOKIE = "__Host-perpetua_session"
"""A browser takes this name only over TLS, for this host alone."""

SCOPE = "perpetua_scope"
"""Where the request's state says what the client may do."""

_OPEN = ("/", "/livez", "/readyz", "/schema", SESSION_PATH)
_OPEN_BELOW = ("/static/", "/schema/")
_READS = ("GET", "HEAD", "OPTIONS")
_NEVER_CACHED = ("/v1/", "/metrics")
_POLICY = (
    b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SWAGGER_POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Swagger UI starts from a script in its page. No text of a persona is ever on it."""

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def scope_of(request: Scope) -> TokenScope | None:
    """Return what the client of a request may do."""
    return cast("Any", request)["state"][SCOPE]  # type: ignore[no-any-return]


class Guard:
    """Wraps the application. `refused` is told the reason of each refusal."""

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        rates: Rates,
        names: tuple[str, ...],
        refused: Callable[[str], None],
    ) -> None:
        self._app = app
        self._access = access
        self._rates = rates
        self._names = names
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        request = cast("dict[str, Any]", scope)
        path: str = request["path"]

        async def armed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = _armed(path, list(message["headers"]))
            await send(message)

        try:
            request["state"][SCOPE] = self._check(request, path)
        except Refusal as refusal:
            self._refused(type(refusal).__name__)
            return await _answer(refusal, armed)
        return await self._app(scope, receive, armed)

    def _check(self, request: dict[str, Any], path: str) -> TokenScope | None:
        """Return what the client may do. Raises the refusal of a request that is not to be answered."""
        headers = _Headers(request["headers"])
        client = request.get("client")
        if wait := self._rates.wait(client_of(client[0]) if client else ""):
            raise TooManyRequests(max(math.ceil(wait), 1))
        host = headers.one(b"host")
        if not self._access.required and host is not None and not is_ours(host, self._names):
            raise Misdirected(host)
        reads = request["method"] in _READS
        if not reads and is_from_elsewhere(headers.one(b"sec-fetch-site"), headers.one(b"origin"), host):
            raise CrossSite
        scope = self._scope(headers)
        if path in _OPEN or path.startswith(_OPEN_BELOW):
            return scope
        if scope is None:
            raise Unauthorized
        if not may(scope, READ if reads else CONTROL):
            raise Forbidden
        return scope

    def _scope(self, headers: _Headers) -> TokenScope | None:
        """Return the widest scope of what the client shows; without tokens everybody may do everything."""
        if not self._access.required:
            return CONTROL
        authorization = headers.one(b"authorization")
        if authorization is not None:
            return self._access.of_header(authorization.encode("latin-1"))
        for value in session_cookies(headers.one(b"cookie") or ""):
            if scope := self._access.of_session(value):
                return scope
        return None


class _Headers:
    """A request's headers; of those that come twice the first counts."""

    def __init__(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs

    def one(self, name: bytes) -> str | None:
        return next((value.decode("latin-1") for key, value in self._pairs if key == name), None)


def session_cookies(header: str) -> list[str]:
    """Return the sessions that a `Cookie` header holds, whatever other servers of this host put there."""
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return [value for name, _, value in pairs if name in (SECURE_COOKIE, COOKIE)]


def _armed(path: str, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return an answer's headers with those that keep browsers from misusing it."""
    there = {name.lower() for name, _ in headers}
    policy = _SWAGGER_POLICY if path == "/schema" or path.startswith("/schema/") else _POLICY
    wanted = [*HEADERS, (b"content-security-policy", policy)]
    if path.startswith(_NEVER_CACHED):
        wanted.append((b"cache-control", b"no-store"))
    return headers + [(name, value) for name, value in wanted if name not in there]


async def _answer(refusal: Refusal, send: Send) -> None:
    problem, headers = written(refusal)
    body = msgspec.json.encode(problem)
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    pairs.append((b"content-length", str(len(body)).encode()))
    await send(cast("Message", {"type": "http.response.start", "status": refusal.status, "headers": pairs}))
    await send(cast("Message", {"type": "http.response.body", "body": body, "more_body": False}))
