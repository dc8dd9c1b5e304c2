"""Exporting ended spans by a thread of its own: never waited for, bounded, counted where they are lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

log = structlog.get_logger("traces")

WAITING_MOST = 4096
"""Ended spans that wait for the collector; further ones are dropped."""

_BATCH = 512
_EVERY_MS = 1000

Dropped = Callable[[int], None]


class BoundedExport(BatchSpanProcessor):
    """The SDK's batches, of which those that it drops are counted."""

    def __init__(self, exporter: SpanExporter, where: str, dropped: Dropped) -> None:
        self._counted = _Counted(exporter, where, dropped)
        super().__init__(
            self._counted,
            max_queue_size=WAITING_MOST,
            max_export_batch_size=_BATCH,
            schedule_delay_millis=_EVERY_MS,
        )

    def on_end(self, span: ReadableSpan) -> None:
        """Put an ended span behind those that wait, or drop it. By any thread, never waiting."""
        if self._counted.admit():
            super().on_end(span)


class _Counted(SpanExporter):
    """An exporter that counts what waits for it and what it loses, and says once that it does."""

    def __init__(self, exporter: SpanExporter, where: str, dropped: Dropped) -> None:
        self._exporter = exporter
        self._where = where
        self._dropped = dropped
        self._waiting = 0
        self._lock = Lock()
        self._away = False

    def admit(self) -> bool:
        """Whether there is room for one more; where there is not, it counts as dropped."""
        with self._lock:
            if self._waiting < WAITING_MOST:
                self._waiting += 1
                return True
        self._dropped(1)
        return False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans. What cannot be exported within the exporter's own timeout is dropped."""
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001 - the SDK would only log it
            log.debug("export_failed", error=f"{type(error).__name__}: {error}")
            result = SpanExportResult.FAILURE
        with self._lock:
            self._waiting -= len(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed:
            self._dropped(len(spans))
        if failed != self._away:
            self._away = failed
            note = log.warning if failed else log.info
            note("collector_away" if failed else "collector_back", endpoint=self._where)
        return result

    def shutdown(self) -> None:
        """Let go of the connection."""
        self._exporter.shutdown()
