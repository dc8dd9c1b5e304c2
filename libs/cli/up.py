"""`perpetua up`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from libs.cli.broker import NATS_URL
from libs.cli.model_folder import model_folder
from libs.cli.provision import bounds_of
from libs.concurrency.tasks import leaves
from libs.settings.cognition import PREFIX, CognitionSettings, cognition_reader, read_cognition
from libs.settings.process import ProcessSettings, process_reader, read_process
from libs.settings.tracing import read_tracing, tracing_reader
from libs.supervisor.data_dir import DataDir
from libs.supervisor.errors import UpError
from libs.supervisor.screen import Screen, screen
from libs.supervisor.up import Up, UpOptions

TINY = "tiny"
_TINY_BUILD = "tiny-4"
"""Named anew when the tiny model's making changes, so that an old one is not used."""


def up(
    folder: DataDir,
    *,
    gateway_port: int | None,
    nats_port: int | None,
    nats_url: str | None,
    thinkers: int,
    schedulers: int,
    registries: int,
    compressors: int,
    model: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Bring everything up and stay. Raises `SettingError`, `CliError` or `UpError`."""
    cognition, process = _settings()
    with screen(as_json=as_json, quiet=quiet) as shown:
        options = UpOptions(
            data_dir=folder.path,
            gateway_port=process.gateway.port if gateway_port is None else gateway_port,
            nats_port=4222 if nats_port is None else nats_port,
            nats_url=nats_url or os.environ.get(NATS_URL) or None,
            thinkers=thinkers,
            schedulers=schedulers,
            registries=registries,
            compressors=compressors,
            bounds=bounds_of(cognition, process),
            gateway_scheme=process.gateway.scheme,
            gateway_host=process.gateway.host,
            ends_within_s=process.ends_within_s,
            access=process.nats,
            env=_model_settings(model, folder, shown),
        )
        _run(Up(options, shown).run())


def _settings() -> tuple[CognitionSettings, ProcessSettings]:
    """Validate everything before anything is started: one line beats five processes that stop."""
    cognition = cognition_reader(os.environ)
    settings = read_cognition(cognition), read_process(process_reader(os.environ), "up")
    read_tracing(tracing_reader(os.environ))
    for stranger in cognition.unknown():
        print(f"warning: {stranger}", file=sys.stderr)
    return settings


def _run(work: object) -> None:
    try:
        with asyncio.Runner() as runner:
            runner.run(work)  # type: ignore[arg-type]
    except BaseExceptionGroup as group:
        raise next(leaves(group)) from None


def _model_settings(model: str | None, folder: DataDir, shown: Screen) -> dict[str, str]:
    if model is None:
        return {}
    path = _tiny(folder, shown) if model == TINY else model_folder(model, folder)
    return {f"{PREFIX}THINKER_BACKEND": "ctranslate2", f"{PREFIX}THINKER_CT2_MODEL_PATH": str(path)}


def _tiny(folder: DataDir, shown: Screen) -> Path:
    """Return the tiny model of the data folder, made now unless it is there."""
    path = folder.models / _TINY_BUILD
    shown.tiny_model()
    if path.is_dir():
        return path
    making = [sys.executable, "-m", "libs.models.tiny", str(path)]
    made = subprocess.run(making, capture_output=True, text=True, check=False)
    if made.returncode:
        raise UpError(f"the tiny model could not be made in {path}:\n{made.stderr.strip()[-800:]}")
    return path
