"""Which folder a `--model` means."""

from __future__ import annotations

from pathlib import Path

from libs.cli.errors import CliError
from libs.supervisor.data_dir import DataDir


def model_folder(asked: str, data: DataDir) -> Path:
    """Return the folder of a pulled model, by name or repository, or a CTranslate2 one. Raises `CliError`.

    With `@REVISION` a pulled one is taken at that commit only.
    """
    from libs.models.store import MODEL, Store

    store = Store(data.models)
    if (manifest := store.find(asked)) is not None:
        return store.folder(manifest)
    path = Path(asked).expanduser().absolute()
    if (path / MODEL).is_file():
        return path
    if (path / "config.json").is_file():
        raise CliError(
            f"{path} is a model that is not converted yet: convert it with `perpetua model pull {asked}`"
        )
    if store.called(asked):
        raise CliError(store.absent(asked))
    raise CliError(
        f"{asked} is no pulled model, and {path} is not a CTranslate2 model folder (no {MODEL} in it). "
        f"{_cure(asked, store.absent(asked))}, or use `--model tiny` for one with random weights"
    )


def _cure(asked: str, absent: str) -> str:
    from libs.models.errors import ModelError
    from libs.models.names import parse

    try:
        parse(asked)
    except ModelError:
        return f"{absent[0].upper()}{absent[1:]}. Fetch one with `perpetua model pull`"
    return f"Fetch it with `perpetua model pull {asked}`"
