"""The ASGI application: routes, errors, OpenAPI."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.static_files import create_static_files_router
from litestar.types import ASGIApp, Receive, Scope, Send
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.contracts.limits import BODY_BYTES
from libs.runtime.health import Health
from libs.runtime.imports import without
from libs.settings.gateway import GatewaySettings
from services.gateway.access import Access
from services.gateway.document import document
from services.gateway.feed import Feed
from services.gateway.guard import Guard
from services.gateway.openapi import ASSETS, openapi, swagger_assets
from services.gateway.paths import raw_paths
from services.gateway.peers import Swarm
from services.gateway.problems import HANDLERS
from services.gateway.rates import Rates
from services.gateway.routes import health as health_routes
from services.gateway.routes import page
from services.gateway.routes.cognition import Cognition
from services.gateway.routes.common import check_request
from services.gateway.routes.inbox import InboxRoutes
from services.gateway.routes.session import Sessions
from services.gateway.routes.swarm import SwarmRoutes
from services.gateway.sending import Sending
from services.gateway.tracing import traced

_API = "/v1/"
_PATH_SHOWN = 100

_PARTS = ("bus", "swarm", "sending", "feed", "health", "registry", "access")


def make_app(
    *,
    bus: Bus,
    swarm: Swarm,
    sending: Sending,
    feed: Feed,
    health: Health,
    registry: CollectorRegistry,
    settings: GatewaySettings,
    refused: Callable[[str], None],
    answering: Callable[[str], None],
    version: str,
) -> ASGIApp:
    """Return the application over its parts.

    `refused` is told the reason of each refusal of the guard, `answering` each request of the API that it
    lets in.
    """
    access = Access(settings.tokens, time.time)
    parts = dict(zip(_PARTS, (bus, swarm, sending, feed, health, registry, access), strict=True))
    rates = Rates(settings.requests_per_s, time.monotonic)
    let_in = _noted(cast("ASGIApp", _litestar(parts, version)), answering)
    app = cast("ASGIApp", Guard(let_in, access, rates, settings.names, refused))
    return raw_paths(app if bus.tracer is None else traced(app, bus.tracer))


def _noted(app: ASGIApp, answering: Callable[[str], None]) -> ASGIApp:
    async def noted(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path.startswith(_API):
            answering(f"{cast('Any', scope)['method']} {path[:_PATH_SHOWN]}")
        await app(scope, receive, send)

    return noted


def published(version: str) -> dict[str, Any]:
    """Return the OpenAPI document, without anything that runs."""
    return document(_litestar(dict.fromkeys(_PARTS), version))


def _litestar(parts: dict[str, Any], version: str) -> Litestar:
    # It would load its own plugin for traces, and OpenTelemetry with it, only to see that we have none
    with without("litestar.plugins.opentelemetry"):
        return _made(parts, version)


def _made(parts: dict[str, Any], version: str) -> Litestar:
    return Litestar(
        route_handlers=[
            Router(
                "/",
                route_handlers=[Cognition, SwarmRoutes, InboxRoutes, Sessions],
                before_request=check_request,
            ),
            health_routes.livez,
            health_routes.readyz,
            health_routes.metrics,
            page.show,
            create_static_files_router(page.STATIC, [page.FOLDER], cache_control=page.FRESH),
            create_static_files_router(ASSETS, [swagger_assets()], name="swagger"),
        ],
        dependencies={name: _given(part) for name, part in parts.items()} | {"html": _given(page.html())},
        exception_handlers=HANDLERS,
        openapi_config=openapi(version),
        request_max_body_size=BODY_BYTES,
        logging_config=None,
    )


def _given(value: object) -> Provide:
    async def provide() -> Any:
        return value

    return Provide(provide)
