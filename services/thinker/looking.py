"""Looking again for something to think with, while there is nothing [1.1]."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from libs.runtime.process import ConfigurationError
from libs.settings.cognition import ThinkerSettings
from services.thinker.backends.base import Backend
from services.thinker.backends.choosing import choose_again

log = structlog.get_logger("looking")

LOOK_AGAIN_S = 30.0


class Looking:
    """Finds what thinks in the place of the declared fallback.

    What is there and cannot think, such as a pulled model that is broken, is said, and passed over: at a
    start it would end the process, which has its fallback by now.
    """

    def __init__(self, settings: ThinkerSettings, models: Path, changed: Callable[[], None]) -> None:
        self.trouble: str | None = None
        """Why what was found last cannot think, and the cure."""

        self._settings = settings
        self._models = models
        self._changed = changed

    async def found(self) -> Backend:
        """Return the first that can think, looked for every 30 s."""
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            try:
                backend = await choose_again(self._settings, self._models)
            except ConfigurationError as error:
                self._note(str(error))
                continue
            self._note(None)
            if backend is not None:
                return backend

    def _note(self, trouble: str | None) -> None:
        if trouble == self.trouble:
            return
        if trouble is not None:
            log.warning("cannot_think_with_it", error=trouble, meanwhile="thoughts are declared fallbacks")
        self.trouble = trouble
        self._changed()
