"""Where traces go, and which are made. OpenTelemetry's own names, prefix `OTEL_`."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from libs.settings.reader import Reader, SettingError

PREFIX = "OTEL_"

DEFAULT_RATIO = 0.01
_ENDPOINT = "EXPORTER_OTLP_ENDPOINT"
_RATIO = "parentbased_traceidratio"
_SAMPLERS = {
    name: name
    for name in (_RATIO, "parentbased_always_on", "parentbased_always_off", "always_on", "always_off")
}


class TracingSettings(Struct, frozen=True, kw_only=True):
    """Traces of a process. Without an endpoint there are none, and OpenTelemetry is not loaded."""

    endpoint: str | None = None
    """The collector's base URL, OTLP over HTTP; `/v1/traces` is added."""

    ratio: float = DEFAULT_RATIO
    """Of what begins a trace of its own, how much is sampled; 0 to 1."""

    follows_parent: bool = True
    """What has a parent is sampled if that is, whatever the ratio."""


def tracing_reader(env: Mapping[str, str]) -> Reader:
    """Return the reader of OpenTelemetry's settings."""
    return Reader(env, PREFIX)


def read_tracing(read: Reader) -> TracingSettings:
    """Read and validate. Raises `SettingError`."""
    endpoint = read.text(
        _ENDPOINT, None, "collector of traces, OTLP over HTTP; none: no traces", allowed="an http(s) URL"
    )
    if endpoint is not None and not _is_url(endpoint):
        raise SettingError(read.key(_ENDPOINT), endpoint, "an http(s) URL")
    sampler = read.choice(
        "TRACES_SAMPLER", _RATIO, _SAMPLERS, "which traces are made; whoever has a sampled parent is sampled"
    )
    ratio = read.number(
        "TRACES_SAMPLER_ARG",
        DEFAULT_RATIO,
        "share of what has no parent, such as a tick, that `parentbased_traceidratio` samples",
        least=0,
        most=1,
    )
    if sampler != _RATIO:
        ratio = 1.0 if sampler.endswith("always_on") else 0.0
    return TracingSettings(endpoint=endpoint, ratio=ratio, follows_parent=sampler.startswith("parentbased_"))


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
