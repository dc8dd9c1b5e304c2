"""The ASGI application: routes, errors, OpenAPI."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from litestar import Litestar, Router
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Tag
from litestar.static_files import create_static_files_router
from litestar.types import ASGIApp
from prometheus_client import CollectorRegistry

from libs.bus.connection import Bus
from libs.contracts.limits import BODY_BYTES
from libs.runtime.health import Health
from services.gateway.feed import Feed
from services.gateway.paths import raw_paths
from services.gateway.peers import Swarm
from services.gateway.problems import HANDLERS
from services.gateway.routes import health as health_routes
from services.gateway.routes.cognition import Cognition
from services.gateway.routes.common import require_json
from services.gateway.routes.swarm import SwarmRoutes

T = TypeVar("T")

_ASSETS = "/schema/assets"


def make_app(
    *, bus: Bus, swarm: Swarm, feed: Feed, health: Health, registry: CollectorRegistry, version: str
) -> ASGIApp:
    """Return the application over its parts."""
    app = Litestar(
        route_handlers=[
            Router("/", route_handlers=[Cognition, SwarmRoutes], before_request=require_json),
            health_routes.livez,
            health_routes.readyz,
            health_routes.metrics,
            health_routes.page,
            create_static_files_router(_ASSETS, [swagger_assets()], include_in_schema=False),
        ],
        dependencies={
            "bus": _given(bus),
            "swarm": _given(swarm),
            "feed": _given(feed),
            "health": _given(health),
            "registry": _given(registry),
            "html": _given(health_routes.PAGE.read_bytes()),
        },
        exception_handlers=HANDLERS,
        openapi_config=openapi(version),
        request_max_body_size=BODY_BYTES,
        logging_config=None,
    )
    return raw_paths(app)


def openapi(version: str) -> OpenAPIConfig:
    """Return what the OpenAPI document says about the whole."""
    return OpenAPIConfig(
        title="Perpetua",
        version=version,
        summary="Always-on persona swarms",
        description="Errors are RFC 9457 problem documents. Nothing that a swarm thinks is ever executed.",
        tags=[
            Tag(name="cognition", description="The loop, its events and snapshots"),
            Tag(name="swarm", description="Personas and their lineage"),
        ],
        path="/schema",
        render_plugins=[
            SwaggerRenderPlugin(
                js_url=f"{_ASSETS}/swagger-ui-bundle.js",
                css_url=f"{_ASSETS}/swagger-ui.css",
                standalone_preset_js_url=f"{_ASSETS}/swagger-ui-standalone-preset.js",
                path="/",
            )
        ],
    )


def swagger_assets() -> Path:
    """Return the folder of Swagger UI's files, so that the page needs nothing from elsewhere."""
    spec = find_spec("swagger_ui")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "static"


def _given(value: T) -> Provide:
    async def provide() -> T:
        return value

    return Provide(provide)
