"""Which broker a command means."""

from __future__ import annotations

from libs.cli.errors import CliError
from libs.supervisor.data_dir import DataDir


def broker_of(folder: DataDir, nats_url: str | None, holds: str) -> str:
    """Return the broker that is named, else that of the `up` in the folder, which `holds` what is wanted.

    Raises `CliError` where neither is there.
    """
    if nats_url is not None:
        return nats_url
    run = folder.read()
    if run is None:
        raise CliError(
            f"no `perpetua up` runs in {folder.path}, and its broker holds {holds}. Start it, name its "
            "folder with --data-dir, or name a broker with --nats-url"
        )
    return run.nats_url
