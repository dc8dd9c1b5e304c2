"""Errors as RFC 9457 `application/problem+json` [5.2]. No input gives a 500."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, SerializationException, ValidationException
from msgspec import Struct

from libs.bus.errors import BusError
from libs.contracts.refusals import Invalid, Refusal, Unavailable

log = structlog.get_logger("gateway")

MEDIA_TYPE = "application/problem+json"

_PATTERN = "matching regex"
_ID_RULE = "an id of 1 to 128 characters without control characters, and not `.` or `..`"


class Problem(Struct, frozen=True, kw_only=True):
    """What went wrong, for people (`detail`) and programs (`status`)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class UnsupportedMediaType(Refusal):
    """The body is not said to be JSON."""

    status = 415
    title = "Unsupported media type"


def respond(refusal: Refusal) -> Response[bytes]:
    """Return a refusal as a problem document."""
    problem = Problem(title=refusal.title, status=refusal.status, detail=refusal.detail)
    headers = {"Retry-After": str(refusal.retry_after)} if isinstance(refusal, Unavailable) else {}
    return Response(
        msgspec.json.encode(problem), status_code=refusal.status, media_type=MEDIA_TYPE, headers=headers
    )


def on_refusal(_: Request[Any, Any, Any], refusal: Refusal) -> Response[bytes]:
    """Answer a refusal."""
    return respond(refusal)


def on_bus_error(_: Request[Any, Any, Any], error: BusError) -> Response[bytes]:
    """Answer that the broker is away."""
    return respond(Unavailable(f"the broker does not answer: {error}"))


def on_malformed(_: Request[Any, Any, Any], error: SerializationException) -> Response[bytes]:
    """Answer a body that is not JSON."""
    return respond(Invalid(f"the body is not valid JSON: {error.detail or error}"))


def on_http(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer what the framework refuses: unknown paths, methods, bodies that are too large."""
    phrase = HTTPStatus(error.status_code).phrase
    detail = _explain(error) if isinstance(error, ValidationException) else error.detail or phrase
    problem = Problem(title=phrase, status=error.status_code, detail=detail)
    return Response(
        msgspec.json.encode(problem),
        status_code=error.status_code,
        media_type=MEDIA_TYPE,
        headers=error.headers or {},
    )


def on_anything(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer our own fault, and say so in the log."""
    log.error("request_failed", path=request.scope["path"], exc_info=error)
    problem = Problem(
        title="Internal Server Error", status=500, detail="an error of the gateway; see its log"
    )
    return Response(msgspec.json.encode(problem), status_code=500, media_type=MEDIA_TYPE)


def _explain(error: ValidationException) -> str:
    """Return a sentence that names the field and what is wrong with it."""
    extra = error.extra if isinstance(error.extra, list) else []
    return "; ".join(_sentence(item) for item in extra if isinstance(item, dict)) or error.detail


def _sentence(item: dict[str, Any]) -> str:
    key, message, source = item.get("key", ""), str(item.get("message", "")), item.get("source", "")
    if source == "body" and key == "data":
        key = "body"
        if message == "'data'":
            message = "Expected a JSON object, got nothing"
    if _PATTERN in message:
        message = f"Expected {_ID_RULE}"
    return f"{key}: {message}" if key else message


HANDLERS: dict[Any, Any] = {
    Refusal: on_refusal,
    BusError: on_bus_error,
    SerializationException: on_malformed,
    HTTPException: on_http,
    Exception: on_anything,
}
