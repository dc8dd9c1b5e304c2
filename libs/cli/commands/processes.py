"""`perpetua up`, `ps`, `stats` and `provision`: processes and their broker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from libs.cli import options, output
from libs.runtime.plain import plain
from libs.supervisor.data_dir import DataDir

_PORT = click.IntRange(0, 65535)
_FEW = click.IntRange(1, 16)


@click.command("up")
@click.option("--model", help="A pulled model, a CTranslate2 model folder, or `tiny`, made on the spot.")
@click.option("--gateway-port", type=_PORT, help="0: any free port.  [default: 4096]")
@click.option("--nats-port", type=_PORT, help="0: any free port.  [default: 4222]")
@options.nats_url
@options.data_dir
@click.option(
    "--thinkers", type=click.IntRange(0, 64), default=1, show_default=True, help="Thinker processes."
)
@click.option(
    "--schedulers", type=_FEW, default=1, show_default=True, help="Scheduler processes, which share the work."
)
@click.option("--registries", type=_FEW, default=1, show_default=True, help="Registry processes.")
@click.option(
    "--compressors", type=_FEW, default=1, show_default=True, help="Compressor processes: one and standbys."
)
@click.option("--quiet", is_flag=True, help="Print no line per thought.")
@options.as_json
def up_command(
    model: str | None,
    gateway_port: int | None,
    nats_port: int | None,
    nats_url: str | None,
    data_dir: DataDir,
    thinkers: int,
    schedulers: int,
    registries: int,
    compressors: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Start a broker and the services, and show what they think.

    Ctrl-C stops it all; what was thought goes on from there the next time.
    """
    from libs.cli.up import up

    up(
        data_dir,
        gateway_port=gateway_port,
        nats_port=nats_port,
        nats_url=nats_url,
        thinkers=thinkers,
        schedulers=schedulers,
        registries=registries,
        compressors=compressors,
        model=model,
        as_json=as_json,
        quiet=quiet,
    )


@click.command()
@options.data_dir
@options.nats_url
@options.as_json
def ps(data_dir: DataDir, nats_url: str | None, as_json: bool) -> None:
    """Show the processes that live."""
    from libs.cli.ps import processes

    rows = processes(data_dir, nats_url)
    if as_json:
        return output.print_json(rows)
    columns = ("service", "instance", "pid", "ready", "since", "restarts", "last activity")
    shown = [
        (
            row["service"],
            row["instance"],
            row["pid"],
            row["ready"],
            output.ago(row["since"]),
            row["restarts"],
            _doing(row),
        )
        for row in rows
    ]
    output.print_table(columns, shown, "nothing lives")
    for row in rows:
        for what in _says(row["summary"] or {}):
            click.echo(plain(f"{row['instance']} {what}"))
    return None


def _says(summary: dict[str, Any]) -> Iterator[str]:
    """Yield what a process says of itself that people should know."""
    if summary.get("thinks_with"):
        yield f"thinks with {summary['thinks_with']}"
    for failure in summary.get("failures", ()):
        yield f"goes on without {failure['role']} {failure['slot_index']}: {failure['reason']}"
    for trouble in summary.get("troubles", ()):
        yield f"is in trouble: {trouble}"


def _doing(row: dict[str, Any]) -> str | None:
    """Return what a process last did, and how long ago; or why it does nothing."""
    if not row["ready"]:
        because: str | None = row["not_ready_because"]
        return because
    if row["last_activity"] is None:
        return None
    return f"{row['last_activity']}, {output.ago(row['last_activity_at'])}"


@click.command("stats")
@options.data_dir
@options.nats_url
@options.as_json
def stats_command(data_dir: DataDir, nats_url: str | None, as_json: bool) -> None:
    """Show how long thoughts took, and what became of them."""
    from libs.cli.ps import run_so_far

    found = run_so_far(data_dir, nats_url)
    if as_json:
        return output.print_json(msgspec.to_builtins(found))
    rows = [(one.stage, one.count, one.min_ms, one.mean_ms, one.max_ms) for one in found.stages]
    output.print_table(("stage", "thoughts", "min ms", "mean ms", "max ms"), rows, "nothing was thought yet")
    return click.echo(plain(", ".join(f"{count} {outcome}" for outcome, count in found.outcomes.items())))


@click.command()
@options.data_dir
@options.nats_url
@options.as_json
def provision(data_dir: DataDir, nats_url: str | None, as_json: bool) -> None:
    """Make or update the streams on a broker of yours.

    It is an admin step, safe to repeat.
    """
    from libs.cli.provision import provision_broker

    changed = provision_broker(data_dir, nats_url)
    if as_json:
        return output.print_json({"changed": changed})
    return click.echo(f"provisioned: {', '.join(changed) or 'everything was there already'}")


COMMANDS = (up_command, ps, stats_command, provision)
