"""Where the OpenAPI document is shown: as JSON, as YAML and in Swagger UI, with nothing from other hosts."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from litestar import Request, Response, Router
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import (
    JsonRenderPlugin,
    OpenAPIRenderPlugin,
    SwaggerRenderPlugin,
    YamlRenderPlugin,
)
from litestar.openapi.spec import Tag

from services.gateway.document import corrected
from services.gateway.problems import not_found

ASSETS = "/schema/assets"

_ICON = "<link rel='icon' href='/static/icon.svg'>"


class _Corrected(OpenAPIRenderPlugin):
    """Renders the corrected document."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, corrected(openapi_schema))  # type: ignore[safe-super]


class _Json(_Corrected, JsonRenderPlugin):
    pass


class _Yaml(_Corrected, YamlRenderPlugin):
    pass


class _Swagger(_Corrected, SwaggerRenderPlugin):
    pass


async def _problem_for_unknown(response: Response[Any]) -> Response[Any]:
    return not_found() if response.status_code == 404 else response


def openapi(version: str) -> OpenAPIConfig:
    """Return what the OpenAPI document says about the whole, and where it is shown."""
    return OpenAPIConfig(
        title="Perpetua",
        version=version,
        summary="Always-on persona swarms",
        description="Errors are RFC 9457 problem documents. Nothing that a swarm thinks is ever executed.",
        tags=[
            Tag(name="cognition", description="The loop, its events and snapshots"),
            Tag(name="swarm", description="Personas and their lineage"),
            Tag(name="inbox", description="What is sent to personas"),
            Tag(name="session", description="Signing in with a browser, where the gateway has tokens"),
        ],
        openapi_router=Router(
            "/schema", route_handlers=[], include_in_schema=False, after_request=_problem_for_unknown
        ),
        render_plugins=[
            _Swagger(
                js_url=f"{ASSETS}/swagger-ui-bundle.js",
                css_url=f"{ASSETS}/swagger-ui.css",
                standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
                path="/",
                favicon=_ICON,
            ),
            _Json(),
            _Yaml(),
        ],
    )


def swagger_assets() -> Path:
    """Return the folder of Swagger UI's files, so that the page needs nothing from elsewhere."""
    spec = find_spec("swagger_ui")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "static"
