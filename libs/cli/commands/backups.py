"""`perpetua backup` and `restore`."""

from __future__ import annotations

from pathlib import Path

import click

from libs.cli import options, output
from libs.supervisor.data_dir import DataDir

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("file", type=_FILE)
@options.nats_url
@options.data_dir
@options.as_json
def backup(file: Path, nats_url: str | None, data_dir: DataDir, as_json: bool) -> None:
    """Save every stream and bucket of a broker in FILE, a tar.

    `-` is standard output. Only the broker may run.
    """
    from libs.cli.backup import STANDARD
    from libs.cli.backup import backup as save

    counts = save(data_dir, nats_url, file)
    if file == STANDARD:
        return click.echo(f"saved {sum(counts.values())} messages of {len(counts)} streams", err=True)
    return _show(counts, f"saved in {file}", as_json)


@click.command()
@click.argument("file", type=_FILE)
@click.option("--replace", is_flag=True, help="Delete the streams that are there, with all that they hold.")
@options.nats_url
@options.data_dir
@options.as_json
def restore(file: Path, replace: bool, nats_url: str | None, data_dir: DataDir, as_json: bool) -> None:
    """Make the streams of a backup, FILE, again on a broker.

    `-` is standard input. Bounds and replicas are those of the settings.
    """
    from libs.cli.backup import restore as bring_back

    _show(bring_back(data_dir, nats_url, file, replace=replace), f"restored from {file}", as_json)


def _show(counts: dict[str, int], done: str, as_json: bool) -> None:
    if as_json:
        return output.print_json({"messages": counts})
    output.print_table(("stream", "messages"), list(counts.items()), "")
    return click.echo(done)


COMMANDS = (backup, restore)
