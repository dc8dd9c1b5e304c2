"""Logs are events with fields: for people on a terminal, JSON otherwise."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor

from libs.runtime.plain import plain


def configure(
    *, log_format: str, level: str, service: str, instance: str, stream: TextIO | None = None
) -> None:
    """Send this process's logs, and those of libraries, to `stream` (standard error unless given)."""
    out = stream if stream is not None else sys.stderr
    console = log_format == "console" or (log_format == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            *_renderers(console, out),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service, instance=instance)
    _adopt_standard_logging(level)


_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def _renderers(console: bool, out: TextIO) -> list[Processor]:
    if console:
        return [
            _for_terminals,
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    return [structlog.processors.JSONRenderer()]


def _for_terminals(_: object, __: str, event: EventDict) -> EventDict:
    """Take from a line what a terminal would obey: subjects and errors have words of others in them.

    What is no text is shown by its `repr`, which escapes that.
    """
    for name, value in event.items():
        if isinstance(value, str):
            lines = value.split("\n") if name in _OF_SEVERAL_LINES else [value]
            event[name] = "\n".join(plain(line) for line in lines)
    return event


_OF_SEVERAL_LINES = ("exception", "stack")


class _Forward(logging.Handler):
    """Hands records of the standard library's logging to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        log.log(record.levelno, "library_log", logger=record.name, text=record.getMessage())


def _adopt_standard_logging(level: str) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_Forward()]
    root.setLevel(max(_LEVELS[level], logging.WARNING))
