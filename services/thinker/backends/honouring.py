"""Settings that a backend cannot honour: refused where the backend was named, said aloud where it was not."""

from __future__ import annotations

import structlog

from libs.runtime.process import ConfigurationError
from libs.settings.cognition import PREFIX, ThinkerSettings
from services.thinker.backends.base import Backend

log = structlog.get_logger("settings")


def ignored(backend: Backend) -> tuple[str, ...]:
    """Return the settings that a backend cannot honour."""
    ignores: tuple[str, ...] = getattr(backend, "ignores", ())
    return ignores


def check(settings: ThinkerSettings, backend: Backend) -> None:
    """Say which settings the backend cannot honour.

    Raises `ConfigurationError` for one that was given, where the backend was given by name too: both cannot
    be had.
    """
    ignores = ignored(backend)
    chosen = [name for name in ignores if name in settings.given]
    if chosen and settings.backend != "auto":
        raise ConfigurationError(
            f"{', '.join(PREFIX + name for name in chosen)} cannot be honoured by {backend.description}; "
            "unset it, or choose another backend"
        )
    if chosen:
        log.warning(
            "settings_ignored", settings=[PREFIX + name for name in chosen], backend=backend.description
        )
    if others := [PREFIX + name for name in ignores if name not in chosen]:
        log.info("settings_not_honoured", settings=others)
