"""Where traces go, and which are made. OpenTelemetry's own names, prefix `OTEL_`."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from libs.settings.reader import Reader, SettingError
from libs.settings.urls import is_http

PREFIX = "OTEL_"

DEFAULT_RATIO = 0.01
_ENDPOINT = "EXPORTER_OTLP_ENDPOINT"
_OTHER_ENDPOINT = "EXPORTER_OTLP_TRACES_ENDPOINT"
_RATIO = "parentbased_traceidratio"
_SAMPLER_ARG = "TRACES_SAMPLER_ARG"
_SAMPLERS = {
    name: name
    for name in (_RATIO, "parentbased_always_on", "parentbased_always_off", "always_on", "always_off")
}

_ONE_WAY = {
    "EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
    "TRACES_EXPORTER": "otlp",
    "SDK_DISABLED": "false",
}
"""Of OpenTelemetry's variables those of which one value alone can be had, where there are traces."""

_UNHEEDED = {
    "SERVICE_NAME": "a process is named after its service",
    "PROPAGATORS": "contexts are those of W3C's tracecontext",
    "BSP_SCHEDULE_DELAY": "it is fixed",
    "BSP_EXPORT_TIMEOUT": "it is fixed",
    "BSP_MAX_QUEUE_SIZE": "it is fixed",
    "BSP_MAX_EXPORT_BATCH_SIZE": "it is fixed",
}


class TracingSettings(Struct, frozen=True, kw_only=True):
    """Traces of a process. Without an endpoint there are none, and OpenTelemetry is not loaded."""

    endpoint: str | None = None
    """The collector's base URL, OTLP over HTTP; `/v1/traces` is added."""

    ratio: float = DEFAULT_RATIO
    """Of what begins a trace of its own, how much is sampled; 0 to 1."""

    follows_parent: bool = True
    """What has a parent is sampled if that is, whatever the ratio."""

    unheeded: tuple[str, ...] = ()
    """A sentence for each variable of OpenTelemetry's that is given, and changes nothing."""


def tracing_reader(env: Mapping[str, str]) -> Reader:
    """Return the reader of OpenTelemetry's settings."""
    return Reader(env, PREFIX)


def read_tracing(read: Reader) -> TracingSettings:
    """Read and validate. Raises `SettingError`."""
    endpoint = read.text(
        _ENDPOINT, None, "collector of traces, OTLP over HTTP; none: no traces", allowed="an http(s) URL"
    )
    if endpoint is not None and not is_http(endpoint):
        raise SettingError(read.key(_ENDPOINT), endpoint, "an http(s) URL")
    ratio, follows_parent = _sampling(read)
    _refuse_what_cannot_be_had(read, endpoint)
    unheeded = [
        f"{read.key(name)} changes nothing: {why}"
        for name, why in _UNHEEDED.items()
        if endpoint and read.said(name)
    ]
    return TracingSettings(
        endpoint=endpoint, ratio=ratio, follows_parent=follows_parent, unheeded=tuple(unheeded)
    )


def _sampling(read: Reader) -> tuple[float, bool]:
    """Return the share of what has no parent that is sampled, and whether parents are followed."""
    sampler = read.choice(
        "TRACES_SAMPLER", _RATIO, _SAMPLERS, "which traces are made; whoever has a sampled parent is sampled"
    )
    ratio = read.number(
        _SAMPLER_ARG,
        DEFAULT_RATIO,
        "share of what has no parent, such as a tick, that is sampled; for `parentbased_traceidratio` alone",
        least=0,
        most=1,
    )
    if sampler != _RATIO:
        if (share := read.said(_SAMPLER_ARG)) is not None:
            raise SettingError(read.key(_SAMPLER_ARG), share, f"nothing: {sampler} takes no share")
        ratio = 1.0 if sampler.endswith("always_on") else 0.0
    return ratio, sampler.startswith("parentbased_")


def _refuse_what_cannot_be_had(read: Reader, endpoint: str | None) -> None:
    if (other := read.said(_OTHER_ENDPOINT)) is not None:
        wanted = f"nothing: the collector is named by {read.key(_ENDPOINT)}, without /v1/traces"
        raise SettingError(read.key(_OTHER_ENDPOINT), other, wanted)
    for name, only in _ONE_WAY.items() if endpoint is not None else ():
        if (said := read.said(name)) is not None and said.lower() != only:
            raise SettingError(read.key(name), said, f"{only}, where {read.key(_ENDPOINT)} is set")
