"""What thinks, and why [1.1].

With `auto`: a model folder that was given, else an endpoint that was given, else the newest pulled model,
else the default endpoint where it answers, else the declared fallback, looked at again every 30 s.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from libs.models.store import Store
from libs.runtime.process import ConfigurationError
from libs.settings.cognition import PREFIX, ThinkerSettings
from services.thinker.backends.base import Backend
from services.thinker.backends.ct2 import CTranslate2, load
from services.thinker.backends.fallback import Fallback

log = structlog.get_logger("choosing")

_ANSWERS_WITHIN_S = 2.0
_LOOKED_AT_BYTES = 65_536


async def choose(settings: ThinkerSettings, models: Path | None = None) -> Backend:
    """Return the backend that the settings and the world call for, loaded and warm.

    `models` is the folder of pulled models, where there is one.
    Raises `ConfigurationError` where what was named cannot think [H2].
    """
    if not settings.enabled:
        return Fallback(f"nothing, because {PREFIX}THINKER_ENABLED=false", None)
    if settings.backend == "ctranslate2":
        if settings.model_path is None:
            raise ConfigurationError(
                f"{PREFIX}THINKER_BACKEND=ctranslate2 needs {PREFIX}THINKER_CT2_MODEL_PATH, a model folder"
            )
        return await _ctranslate2(settings, settings.model_path, "that backend was named")
    if settings.backend == "openai_compat":
        return _endpoint(settings, "that backend was named")
    return await _auto(settings, models)


async def choose_again(settings: ThinkerSettings, models: Path | None = None) -> Backend | None:
    """Return something better than the declared fallback, if there is anything by now."""
    if models is not None and (pulled := Store(models).newest()) is not None:
        path = str(models / pulled.name)
        return await _ctranslate2(settings, path, "it was pulled, the last of those that are there")
    if await _answers(settings.endpoint):
        return _endpoint(settings, "it answers at the default address")
    return None


def is_provisional(settings: ThinkerSettings, backend: Backend) -> bool:
    """Whether the choice is to be looked at again."""
    return settings.enabled and settings.backend == "auto" and isinstance(backend, Fallback)


async def _auto(settings: ThinkerSettings, models: Path | None) -> Backend:
    if settings.model_path is not None:
        return await _ctranslate2(settings, settings.model_path, "a model folder was given")
    if settings.endpoint_given:
        return _endpoint(settings, "an endpoint was given")
    if (found := await choose_again(settings, models)) is not None:
        return found
    base = settings.endpoint.removesuffix("/chat/completions")
    error = (
        f"no model: none was given or pulled and nothing answers at {base}; fetch one with `perpetua model "
        "pull`, or start an OpenAI-compatible server there (Ollama does), or set "
        f"{PREFIX}THINKER_BASE_URL or {PREFIX}THINKER_CT2_MODEL_PATH"
    )
    return Fallback(f"nothing: no model was given and nothing answers at {base}", error)


async def _ctranslate2(settings: ThinkerSettings, path: str, why: str) -> CTranslate2:
    folder = Path(path)
    loaded = await asyncio.get_running_loop().run_in_executor(None, load, settings, folder)
    return CTranslate2(settings, folder, loaded, why)


def _endpoint(settings: ThinkerSettings, why: str) -> Backend:
    from services.thinker.backends.openai_compat import OpenAICompat  # what others need not wait for

    return OpenAICompat(settings, why)


async def _answers(endpoint: str) -> bool:
    """Whether an HTTP server answers there, whatever it says."""
    from services.thinker.backends.http_pool import HttpError, Pool, TooLarge

    pool = Pool(endpoint.removesuffix("/chat/completions") + "/models", {}, _LOOKED_AT_BYTES, method="GET")
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            await pool.ask(b"")
    except TooLarge:
        return True
    except (HttpError, TimeoutError):
        return False
    finally:
        await pool.close()
    return True
