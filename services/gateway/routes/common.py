"""What routes share: how errors are documented, and what a body must be."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.openapi.datastructures import ResponseSpec

from services.gateway.problems import MEDIA_TYPE, Problem, UnsupportedMediaType

_DESCRIPTIONS = {
    400: "The request contradicts its schema or a bound",
    404: "There is nothing of that id",
    409: "The request contradicts what is",
    413: "The body is larger than 1 MiB",
    415: "The body is not said to be JSON",
    503: "A peer service does not answer; try again",
}


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """Return the problem documents that a route may answer with."""
    return {
        status: ResponseSpec(
            data_container=Problem,
            description=_DESCRIPTIONS[status],
            media_type=MEDIA_TYPE,
            generate_examples=False,
        )
        for status in statuses
    }


async def require_json(request: Request[Any, Any, Any]) -> None:
    """Refuse a body that is not said to be JSON [5.2]. An empty body needs no content type."""
    if request.method != "POST":
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        return
    if kind or await request.body():
        raise UnsupportedMediaType("send the body as application/json")
