"""What routes share: how errors are documented, and what a body must be."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response
from litestar.openapi.datastructures import ResponseSpec

from services.gateway.bodies import UnsupportedMediaType, is_json, read_body
from services.gateway.problems import MEDIA_TYPE, Problem

_DESCRIPTIONS = {
    400: "The request contradicts its schema or a bound",
    401: "It shows no token, where the gateway asks for one",
    403: "The token may not do this, or a page of another site has sent it",
    404: "There is nothing of that id",
    409: "The request contradicts what is",
    413: "The body is larger than 1 MiB",
    415: "The body is not said to be JSON",
    421: "It calls the gateway by a name that is not its own",
    429: "The client makes too many requests",
    503: "A peer service does not answer; try again",
}


_ALWAYS = (401, 421, 429)
"""What the guard answers before a route is looked for."""


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """Return the problem documents that a route may answer with, beyond those of every route."""
    return {
        status: ResponseSpec(
            data_container=Problem,
            description=_DESCRIPTIONS[status],
            media_type=MEDIA_TYPE,
            generate_examples=False,
        )
        for status in sorted({*statuses, *_ALWAYS})
    }


async def check_request(request: Request[Any, Any, Any]) -> Response[None] | None:
    """Refuse bodies that do not fit [5.2]."""
    if request.method == "OPTIONS":
        return _methods(request)
    if request.method in ("POST", "PUT"):
        await _check_sent(request)
    return None


def _methods(request: Request[Any, Any, Any]) -> Response[None]:
    """Name every method of the path; of several handlers Litestar 2 names one (its issue 4169)."""
    methods = request.app.route_handler_method_map[request.scope["path_template"]]
    return Response(None, status_code=204, headers={"Allow": ", ".join(sorted(methods))})


async def _check_sent(request: Request[Any, Any, Any]) -> None:
    body = await request.body()
    if not body:  # nothing is sent, whatever its type is said to be [4.1]
        return
    if not is_json(request.headers.get("content-type", "")):
        raise UnsupportedMediaType
    expected = request.route_handler.parsed_data_field
    if expected is not None:
        read_body(body, expected.annotation)
