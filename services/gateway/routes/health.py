"""`/livez`, `/readyz` and `/metrics` of the gateway."""

from __future__ import annotations

from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from libs.runtime.health import Health


@get("/livez", include_in_schema=False)
async def livez(health: NamedDependency[Health]) -> Response[bytes]:
    """Say whether the process lives."""
    status, body = health.answer("/livez")
    return Response(body, status_code=status, media_type=MediaType.JSON)


@get("/readyz", include_in_schema=False)
async def readyz(health: NamedDependency[Health]) -> Response[bytes]:
    """Say whether the gateway can serve."""
    status, body = health.answer("/readyz")
    return Response(body, status_code=status, media_type=MediaType.JSON)


@get("/metrics", include_in_schema=False)
async def metrics(registry: NamedDependency[CollectorRegistry]) -> Response[bytes]:
    """Show metrics in Prometheus's text format."""
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
