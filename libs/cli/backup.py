"""`perpetua backup` and `restore`: every stream and bucket in one tar file.

A member a stream and one that describes it, by the names that `nats stream backup` uses. Presence is left
out: it tells of processes that will not be there.
"""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from libs.cli.broker import broker_of, connected
from libs.cli.errors import CliError
from libs.cli.provision import quiet, wanted_bounds
from libs.contracts import streams
from libs.contracts.limits import PRESENCE_TTL_S
from libs.contracts.streams import StreamBounds
from libs.settings.broker import BrokerSettings
from libs.supervisor.data_dir import DataDir

if TYPE_CHECKING:
    from libs.bus.connection import Bus

STANDARD = Path("-")
_CONNECT_WITHIN_S = 30.0
_DESCRIPTION, _ARCHIVE = "backup.json", "stream.tar.s2"
_LOOK_S = 0.25
_IN_MEMORY = 8 * 1024 * 1024


def backup(folder: DataDir, nats_url: str | None, file: Path) -> dict[str, int]:
    """Write the file and return how many messages of each stream it holds. Raises `CliError`.

    `-` is standard output.
    """
    broker = _broker(folder, nats_url)
    if file == STANDARD:
        with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
            return asyncio.run(_backup(broker, archive))
    if file.exists():
        raise CliError(f"{file} exists; name a new file, or remove it")
    partial = file.with_name(f"{file.name}.partial")
    try:
        with tarfile.open(partial, "w") as archive:
            counts = asyncio.run(_backup(broker, archive))
        partial.replace(file)
    except OSError as error:
        raise CliError(f"{file} cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return counts


def restore(folder: DataDir, nats_url: str | None, file: Path, *, replace: bool) -> dict[str, int]:
    """Make the streams again, return how many messages each holds, then provision. Raises `CliError`.

    With `replace` streams that exist are deleted first; without it they are an error. Bounds and replicas
    become those of the settings. `-` is standard input.
    """
    broker = _broker(folder, nats_url)
    try:
        with _opened(file) as read, tarfile.open(fileobj=read, mode="r") as archive:
            described = _described(archive, file)
            return asyncio.run(_restore(broker, archive, described, wanted_bounds(), replace=replace))
    except (OSError, tarfile.TarError) as error:
        raise CliError(f"{file} cannot be read as a backup: {error}") from error


def _broker(folder: DataDir, nats_url: str | None) -> BrokerSettings:
    from libs.runtime.imports import preload

    preload()
    quiet("backup")
    return broker_of(folder, nats_url)


def _opened(file: Path) -> IO[bytes]:
    """Return a file to read anywhere in; standard input is read to its end first."""
    if file != STANDARD:
        return file.open("rb")
    whole = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the caller
    shutil.copyfileobj(sys.stdin.buffer, whole)
    whole.seek(0)
    return whole


def _names() -> list[str]:
    return [spec.name for spec in streams.specs(StreamBounds()) if spec.name != streams.LEASES]


async def _backup(broker: BrokerSettings, archive: tarfile.TarFile) -> dict[str, int]:
    from libs.bus.snapshots import save

    counts: dict[str, int] = {}
    async with connected(broker, "perpetua-backup", _CONNECT_WITHIN_S) as bus:
        await _refuse_while_anybody_works(bus, "backed up")
        for name in _names():
            with tempfile.SpooledTemporaryFile(_IN_MEMORY) as saved:
                described = await save(bus, name, saved)
                counts[name] = int(described["state"]["messages"])
                _add(archive, f"{name}/{_DESCRIPTION}", io.BytesIO(json.dumps(described).encode()))
                _add(archive, f"{name}/{_ARCHIVE}", saved)
    return counts


async def _restore(
    broker: BrokerSettings,
    archive: tarfile.TarFile,
    described: dict[str, dict[str, Any]],
    bounds: StreamBounds,
    *,
    replace: bool,
) -> dict[str, int]:
    from libs.bus.provision import provision
    from libs.bus.snapshots import bring_back

    counts: dict[str, int] = {}
    async with connected(broker, "perpetua-restore", _CONNECT_WITHIN_S) as bus:
        there = await _existing(bus)
        if there and not replace:
            raise CliError(f"{', '.join(there)} exist on {broker.url}; --replace deletes what they hold")
        if there:
            await _refuse_while_anybody_works(bus, "restored")
        for name in there:
            await bus.api(f"STREAM.DELETE.{name}")
        for name, text in described.items():
            text["config"]["num_replicas"] = bounds.replicas
            state = await bring_back(bus, text, _chunks(archive, name))
            counts[name] = int(state["messages"])
        await provision(bus, bounds)
    return counts


async def _refuse_while_anybody_works(bus: Bus, done: str) -> None:
    """A copy of streams that move is none: their sequences belong together.

    Who has just ended is still there for a moment, as is who was killed until its presence ends.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + PRESENCE_TTL_S + 1.0
    while there := await _present(bus):
        if clock() > deadline:
            raise CliError(
                f"stop the services first: only the broker runs while streams are {done}. "
                f"There are {', '.join(there)}"
            )
        await asyncio.sleep(_LOOK_S)


async def _present(bus: Bus) -> list[str]:
    """Return who is there. Raises `BusError` where the broker does not say it: that is not nobody."""
    from libs.bus.presence import list_present

    if streams.LEASES not in await _existing(bus):
        return []
    return sorted({record.instance for record in await list_present(bus)})


async def _existing(bus: Bus) -> list[str]:
    answer = await bus.api("STREAM.NAMES")
    ours = {spec.name for spec in streams.specs(StreamBounds())}
    return sorted(ours & set(answer.get("streams") or []))


def _described(archive: tarfile.TarFile, file: Path) -> dict[str, dict[str, Any]]:
    """Return the description of each stream in the file. Raises `CliError` where one is missing."""
    found: dict[str, dict[str, Any]] = {}
    for name in _names():
        try:
            found[name] = json.load(_member(archive, f"{name}/{_DESCRIPTION}"))
            _member(archive, f"{name}/{_ARCHIVE}")
        except (KeyError, ValueError):
            raise CliError(f"{file} is no whole backup: {name} is missing") from None
    return found


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    member = archive.extractfile(name)
    if member is None:
        raise KeyError(name)
    return member


def _chunks(archive: tarfile.TarFile, stream: str) -> Iterator[bytes]:
    from libs.bus.snapshots import CHUNK_BYTES

    member = _member(archive, f"{stream}/{_ARCHIVE}")
    while chunk := member.read(CHUNK_BYTES):
        yield chunk


def _add(archive: tarfile.TarFile, name: str, file: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = file.seek(0, io.SEEK_END)
    member.mode = 0o600
    file.seek(0)
    archive.addfile(member, file)
