"""A span for each request of the API, in the trace that its client names, if it names one."""

from __future__ import annotations

from typing import Any, cast

from litestar.types import ASGIApp, Message, Receive, Scope, Send

from libs.contracts.traces import TRACEPARENT
from libs.tracing.spans import Span, Tracer, inside

_API = "/v1/"
_FOLLOWS = "/v1/cognition/stream"
"""Lasts for hours: no request that a span is of use for."""

_SERVER_ERROR = 500


def traced(app: ASGIApp, tracer: Tracer) -> ASGIApp:
    """Wrap an application whose paths are canonical. Names of spans are routes, never paths."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        request = cast("dict[str, Any]", scope)
        path: str = request["path"]
        span = _begin(tracer, request) if path.startswith(_API) and path != _FOLLOWS else None
        if span is None:
            return await app(scope, receive, send)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                _answered(span, message["status"])
            await send(message)

        try:
            with inside(span):
                return await app(scope, receive, noted)
        finally:
            if (route := request.get("path_template")) is not None:
                span.rename(f"{request['method']} {route}")
                span.note({"http.route": str(route)})
            span.end()

    return serve


def _begin(tracer: Tracer, request: dict[str, Any]) -> Span | None:
    named = [value for name, value in request["headers"] if name == TRACEPARENT.encode()]
    parent = named[0].decode("latin-1").strip() if len(named) == 1 else None
    about = {
        "http.request.method": request["method"],
        "url.path": request["path"],
        "url.scheme": request["scheme"],
    }
    return tracer.begin(request["method"], "server", parent, attributes=about)


def _answered(span: Span, status: int) -> None:
    span.note({"http.response.status_code": status})
    if status >= _SERVER_ERROR:
        span.fail(str(status))
