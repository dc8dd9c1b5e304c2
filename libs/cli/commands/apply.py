"""`perpetua apply`: a swarm from a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from libs.cli import options, output
from libs.cli.api import Api
from libs.cli.errors import CliError
from libs.runtime.plain import plain
from libs.supervisor.text import brief, style

if TYPE_CHECKING:
    from libs.cli.applying import Applied
    from libs.cli.rows import BadRow
    from libs.cli.swarm_file import SwarmFile
    from libs.cli.swarm_plan import Plan

DONE, WRONG, DIFFERS = 0, 1, 3
_SHOWN_MOST = 50
_WIDTH = 110


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show the difference, and do nothing.")
@options.gateway
def apply(file: Path, yes: bool, dry_run: bool, api: Api, as_json: bool) -> None:
    """Bring the swarm that FILE describes into being.

    FILE, `-` for standard input, is YAML: personas as a tree, their policies, whom they wait for, and what
    each is sent first. It is checked, the difference to what is there is shown, and applied once you say yes.
    Run again, it does what is left to do. Nobody is reaped, and who is there keeps name, role, charter,
    parent and policy: where the file says otherwise that is shown, the rest is applied, and the exit status
    is 3.
    """
    from libs.cli.applying import apply as carry_out
    from libs.cli.applying import look
    from libs.cli.importing import text_of
    from libs.cli.swarm_file import read
    from libs.cli.swarm_plan import plan

    if as_json and not (yes or dry_run):
        raise click.UsageError("--json asks nobody; give --yes or --dry-run, too")
    described, bad = read(text_of(file))
    made = None
    if described is not None:
        made = plan(described, look(api, described))
        bad = made.bad
    if bad or described is None or made is None:
        sys.exit(_wrong(file, bad, as_json))
    if not as_json:
        _show(described, made)
    applied = None
    if made.steps and not dry_run:
        if not yes:
            _ask()
        applied = carry_out(api, made)
    if as_json:
        output.print_json(_plain(described, made, applied))
    elif applied is not None:
        _show_applied(applied, made)
    sys.exit(_status(made, applied))


def _wrong(file: Path, bad: list[BadRow], as_json: bool) -> int:
    if as_json:
        output.print_json({"file": str(file), "invalid": [_named(one) for one in bad]})
        return WRONG
    for one in bad[:_SHOWN_MOST]:
        print(style(plain(str(one)), "red"), file=sys.stderr)
    if len(bad) > _SHOWN_MOST:
        print(f"and {len(bad) - _SHOWN_MOST} more", file=sys.stderr)
    print(f"nothing was sent: {len(bad)} wrong in {plain(str(file))}", file=sys.stderr)
    return WRONG


def _show(file: SwarmFile, made: Plan) -> None:
    """Show the difference: `+` is created, `~` changed, `>` sent, `!` cannot be, `?` is not in the file."""
    for row in made.create:
        one = row.persona
        under = f", under {one.parent_id}" if one.parent_id is not None else ""
        _line("+", "green", f"{one.persona_id} ({one.role}{under}): {one.charter}")
    for change in made.wait:
        names = ", ".join(change.wanted) or "nobody"
        before = f" (now: {', '.join(change.now)})" if change.now else ""
        _line("~", "yellow", f"{change.persona_id} waits for {names}{before}")
    for seed in made.send:
        _line(">", "cyan", f"{seed.persona_id} is sent: {seed.request.content}")
    for bad in made.cannot:
        print(style(f"! {plain(str(bad))}", "red"))
    for name in made.extra:
        _line("?", "dim", f"{name} is not in the file, and stays; `perpetua personas reap {name}` ends it")
    if made.cannot:
        print("! What a persona is stays for its life: write that into the file, or give it a new id.")
    print(_sum(file, made))


def _line(mark: str, kind: str, text: str) -> None:
    print(style(f"{mark} {brief(text, _WIDTH)}", kind))


def _sum(file: SwarmFile, made: Plan) -> str:
    parts = [
        f"{count} {what}"
        for count, what in (
            (len(made.create), "to create"),
            (len(made.wait), "to change"),
            (len(made.send), "to send"),
            (len(made.cannot), "impossible"),
            (len(made.extra), "not in the file"),
        )
        if count
    ]
    parts.append(f"{len(made.unchanged)} unchanged")
    rest = "" if made.steps else "nothing to do: "
    return f"swarm {plain(file.swarm)}: {rest}{', '.join(parts)}"


def _ask() -> None:
    """Go on where a person says yes. Raises `CliError` otherwise."""
    if not sys.stdin.isatty():
        raise CliError("nothing was sent: nobody can be asked here; give --yes, or --dry-run to see only")
    if not click.confirm("Apply this?", err=True):
        raise CliError("nothing was sent")


def _show_applied(applied: Applied, made: Plan) -> None:
    for one in applied.refused[:_SHOWN_MOST]:
        print(style(plain(str(one)), "red"), file=sys.stderr)
    if applied.error is not None:
        print(style(plain(applied.error), "red"), file=sys.stderr)
    parts = [f"{applied.created} created", f"{applied.changed} changed", f"{applied.sent} sent"]
    parts += [f"{len(applied.refused)} refused"] if applied.refused else []
    left = made.steps - applied.done
    parts += [f"{left} left; run it again to go on"] if left > 0 else []
    print(", ".join(parts))


def _status(made: Plan, applied: Applied | None) -> int:
    if applied is not None and (applied.refused or applied.error is not None):
        return WRONG
    return DIFFERS if made.cannot else DONE


def _plain(file: SwarmFile, made: Plan, applied: Applied | None) -> dict[str, Any]:
    return {
        "swarm": file.swarm,
        "create": [row.persona.persona_id for row in made.create],
        "wait": [{"persona_id": one.persona_id, "now": one.now, "wanted": one.wanted} for one in made.wait],
        "send": [{"persona_id": seed.persona_id, "item_id": seed.request.id} for seed in made.send],
        "unchanged": made.unchanged,
        "cannot": [_named(one) for one in made.cannot],
        "extra": made.extra,
        "applied": applied
        and {
            "created": applied.created,
            "changed": applied.changed,
            "sent": applied.sent,
            "refused": [_named(one) for one in applied.refused],
            "error": applied.error,
        },
    }


def _named(one: BadRow) -> dict[str, Any]:
    """Return a wrong line as plain data."""
    return {"line": one.line, "error": one.error}


COMMANDS = (apply,)
