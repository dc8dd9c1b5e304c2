"""A stand-in for a collector of traces: OTLP over HTTP, as opentelemetry-proto reads it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.eventually import eventually_sync

PATH = "/v1/traces"


@dataclass(frozen=True)
class Seen:
    """A span as it came."""

    service: str
    instance: str
    name: str
    trace: str
    span: str
    parent: str
    kind: int
    begun: int
    ended: int
    attributes: dict[str, Any]
    links: list[str] = field(default_factory=list)
    failed: bool = False


class Collector:
    """Listens on a free port of loopback until closed."""

    def __init__(self, port: int = 0) -> None:
        self.spans: list[Seen] = []
        self.unreadable = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def of(self, trace: str) -> list[Seen]:
        return [span for span in list(self.spans) if span.trace == trace]

    def until(self, trace: str, names: set[str], within: float = 30.0) -> list[Seen]:
        """Return the spans of a trace once those of all these names are there."""

        def found() -> list[Seen] | None:
            spans = self.of(trace)
            return spans if names <= {span.name for span in spans} else None

        def missing() -> str:
            return f"{names - {span.name for span in self.of(trace)}} in trace {trace}"

        try:
            return eventually_sync(found, within, "spans") or []
        except AssertionError as error:
            raise AssertionError(missing()) from error

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            about = {pair.key: _value(pair.value) for pair in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [_seen(about, span) for span in scope.spans]


def _seen(about: dict[str, Any], span: Any) -> Seen:
    return Seen(
        service=about["service.name"],
        instance=about["service.instance.id"],
        name=span.name,
        trace=span.trace_id.hex(),
        span=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=span.kind,
        begun=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        attributes={pair.key: _value(pair.value) for pair in span.attributes},
        links=[link.trace_id.hex() for link in span.links],
        failed=span.status.code == 2,
    )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)


def _handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != PATH or self.headers["Content-Type"] != "application/x-protobuf":
                collector.unreadable += 1
            else:
                collector.take(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    return Handler
