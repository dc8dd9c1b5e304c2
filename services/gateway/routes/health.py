"""`/livez`, `/readyz` and `/metrics` of the gateway, and its page."""

from __future__ import annotations

from pathlib import Path

from litestar import MediaType, Response, get
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from libs.runtime.health import Health

PAGE = Path(__file__).parent.parent / "static" / "index.html"


@get("/livez", include_in_schema=False)
async def livez(health: Health) -> Response[bytes]:
    """Say whether the process lives."""
    status, body = health.answer("/livez")
    return Response(body, status_code=status, media_type=MediaType.JSON)


@get("/readyz", include_in_schema=False)
async def readyz(health: Health) -> Response[bytes]:
    """Say whether the gateway can serve."""
    status, body = health.answer("/readyz")
    return Response(body, status_code=status, media_type=MediaType.JSON)


@get("/metrics", include_in_schema=False)
async def metrics(registry: CollectorRegistry) -> Response[bytes]:
    """Show metrics in Prometheus's text format."""
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@get("/", include_in_schema=False)
async def page(html: bytes) -> Response[bytes]:
    """Show the swarm."""
    return Response(html, media_type=MediaType.HTML)
