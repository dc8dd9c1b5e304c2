"""Errors as RFC 9457 `application/problem+json` [5.2]. No input gives a 500."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    NotFoundException,
    ValidationException,
)
from msgspec import Struct

from libs.bus.errors import BusError
from libs.contracts.limits import BODY_BYTES
from libs.contracts.refusals import Invalid, Refusal, Unavailable

log = structlog.get_logger("gateway")

MEDIA_TYPE = "application/problem+json"

_HOST_SHOWN = 100

ID_RULE = "an id of 1 to 128 characters without control characters, and not `.` or `..`"


class Problem(Struct, frozen=True, kw_only=True):
    """What went wrong, for people (`detail`) and programs (`status`)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class CrossSite(Refusal):
    """A page of another site has sent the request from somebody's browser."""

    status = 403
    title = "Forbidden"

    def __init__(self) -> None:
        super().__init__("a page of another site may not control this swarm")


class Misdirected(Refusal):
    """The request calls the gateway by a name that anybody could own."""

    status = 421
    title = "Misdirected request"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"this gateway is not {host[:_HOST_SHOWN]}: call it by its address or as localhost, or add the "
            "name to PERPETUA_GATEWAY_NAMES"
        )


class Unauthorized(Refusal):
    """The request shows no token that the gateway knows."""

    status = 401
    title = "Unauthorized"

    def __init__(self) -> None:
        super().__init__("show a token of this gateway: `Authorization: Bearer TOKEN`")


class Forbidden(Refusal):
    """The token may not do this."""

    status = 403
    title = "Forbidden"

    def __init__(self) -> None:
        super().__init__("this token may only read; it takes one with the scope control")


class TooManyRequests(Refusal):
    """The client makes more requests than one may."""

    status = 429
    title = "Too many requests"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many requests from this address; come again in {retry_after} s")
        self.retry_after = retry_after


def written(refusal: Refusal) -> tuple[Problem, dict[str, str]]:
    """Return a refusal as a problem document and its headers."""
    headers = {"Content-Type": MEDIA_TYPE}
    if isinstance(refusal, Unavailable | TooManyRequests):
        headers["Retry-After"] = str(refusal.retry_after)
    if isinstance(refusal, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="perpetua"'
    return Problem(title=refusal.title, status=refusal.status, detail=refusal.detail), headers


def respond(refusal: Refusal) -> Response[bytes]:
    """Return a refusal as a problem document."""
    problem, headers = written(refusal)
    del headers["Content-Type"]
    return Response(
        msgspec.json.encode(problem), status_code=refusal.status, media_type=MEDIA_TYPE, headers=headers
    )


def on_refusal(_: Request[Any, Any, Any], refusal: Refusal) -> Response[bytes]:
    """Answer a refusal."""
    return respond(refusal)


def on_bus_error(_: Request[Any, Any, Any], error: BusError) -> Response[bytes]:
    """Answer that the broker is away."""
    return respond(Unavailable(f"the broker does not answer: {error}"))


def on_too_deep(_: Request[Any, Any, Any], error: RecursionError) -> Response[bytes]:
    """Answer a body that no reader of JSON follows to its end."""
    return respond(Invalid(f"the body is nested too deeply: {error}"))


def on_http(_: Request[Any, Any, Any] | None, error: HTTPException) -> Response[bytes]:
    """Answer what the framework refuses: unknown paths, methods, bodies that are too large."""
    status = error.status_code
    title = Invalid.title if status == Invalid.status else HTTPStatus(status).phrase
    problem = Problem(title=title, status=status, detail=_explain(error))
    headers = error.headers or {}
    return Response(msgspec.json.encode(problem), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def not_found() -> Response[bytes]:
    """Answer that there is nothing under this path."""
    return on_http(None, NotFoundException())


def on_anything(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer our own fault, and say so in the log."""
    log.error("request_failed", path=request.scope["path"], exc_info=error)
    problem = Problem(
        title="Internal Server Error", status=500, detail="an error of the gateway; see its log"
    )
    return Response(msgspec.json.encode(problem), status_code=500, media_type=MEDIA_TYPE)


def _explain(error: HTTPException) -> str:
    """Return a sentence that names the field, where one is wrong, and what is wrong with it."""
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return f"the body is larger than {BODY_BYTES} bytes"
    extra = error.extra if isinstance(error, ValidationException) and isinstance(error.extra, list) else []
    said = "; ".join(_sentence(item) for item in extra if isinstance(item, dict))
    return said or error.detail or HTTPStatus(error.status_code).phrase


def _sentence(item: dict[str, Any]) -> str:
    key, message, source = item.get("key", ""), str(item.get("message", "")), item.get("source", "")
    if source == "body" and key == "data":
        key = "body"
        message = "Expected a JSON object, got nothing"
    return f"{key}: {message}" if key else message


HANDLERS: dict[Any, Any] = {
    Refusal: on_refusal,
    BusError: on_bus_error,
    RecursionError: on_too_deep,
    HTTPException: on_http,
    Exception: on_anything,
}
