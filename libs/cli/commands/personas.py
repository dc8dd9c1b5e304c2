"""`perpetua personas …` and `lineage`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from libs.cli import options, output
from libs.cli.api import Api, segment
from libs.cli.importing import import_file
from libs.cli.lives import life_rows, mood
from libs.contracts.personas import PersonaStatus
from libs.runtime.plain import plain

F = TypeVar("F", bound=Callable[..., Any])

_PAGE = 1000

_persona_id = click.argument("persona_id", metavar="PERSONA")


def _new_persona(command: F) -> F:
    """Give a command what describes a new persona, as `body`'s parts."""
    for option in (
        click.option("--swarm", "swarm_id", help="Its swarm; a child's is its parent's unless given."),
        click.option("--id", "persona_id", help="Its id; a UUID unless given."),
        click.option("--charter", required=True, help="What the persona is for."),
        click.option("--role", required=True),
        click.option("--name", required=True),
    ):
        command = option(command)
    return command


@click.command()
@options.gateway
def lineage(api: Api, as_json: bool) -> None:
    """Draw the tree of all personas."""
    graph = api.get("/v1/swarm/lineage")
    if as_json:
        return output.print_json(graph)
    return click.echo("\n".join(output.tree_lines(graph)) or "no personas yet")


@click.group()
def personas() -> None:
    """List, show, create, import, spawn and reap personas."""


@personas.command("list")
@click.option("--swarm", help="Only this swarm.")
@click.option(
    "--status", type=click.Choice([status.value for status in PersonaStatus]), help="Only this status."
)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@click.option("--after", help="Begin behind this id.")
@options.gateway
def list_personas(
    swarm: str | None, status: str | None, limit: int, after: str | None, api: Api, as_json: bool
) -> None:
    """List personas sorted by id."""
    found: list[dict[str, Any]] = []
    while True:
        query = {"swarm_id": swarm, "status": status, "after": after, "limit": min(limit - len(found), _PAGE)}
        page = api.get("/v1/swarm/personas", **query)
        found += page["personas"]
        after = page["next_after"]
        if after is None or len(found) >= limit:
            break
    if as_json:
        return output.print_json(found)
    _show_all(found)
    if after is not None:
        click.echo(f"{page['total']} in all; more with --after {plain(after)}")
    return None


@personas.command("show")
@_persona_id
@options.gateway
def show(persona_id: str, api: Api, as_json: bool) -> None:
    """Show one persona."""
    _show(api.get(f"/v1/swarm/personas/{segment(persona_id)}"), as_json)


@personas.command("create")
@_new_persona
@options.gateway
def create(api: Api, as_json: bool, **body: str | None) -> None:
    """Create a root persona."""
    _show(api.post("/v1/swarm/personas", body), as_json)


@personas.command("spawn")
@click.argument("parent")
@_new_persona
@options.gateway
def spawn(parent: str, api: Api, as_json: bool, **body: str | None) -> None:
    """Spawn a child under a persona."""
    _show(api.post(f"/v1/swarm/personas/{segment(parent)}/spawn", body), as_json)


@personas.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@options.gateway
def import_personas(file: Path, api: Api, as_json: bool) -> None:
    """Create the personas of FILE that are not there yet.

    FILE, `-` for standard input, holds JSON lines, a JSON array, or CSV with a header: persona_id, name,
    role, charter, and where wanted swarm_id, parent_id and policy (in CSV: policy.max_spawn_depth, ...).
    Parents may stand anywhere in it. Nothing is sent unless every row is right. Run again, it creates only
    what is missing.
    """
    sys.exit(import_file(api, file, as_json=as_json))


@personas.command("reap")
@_persona_id
@click.option("--cascade", is_flag=True, help="Everything below it too.")
@click.option("--reason", help="Announced in the event stream.")
@options.gateway
def reap(persona_id: str, cascade: bool, reason: str | None, api: Api, as_json: bool) -> None:
    """Reap a persona: it thinks no more."""
    path = f"/v1/swarm/personas/{segment(persona_id)}/reap"
    answer = api.post(path, {"cascade": cascade, "reason": reason})
    if as_json:
        return output.print_json(answer)
    names = ", ".join(map(plain, answer["reaped_ids"]))
    return click.echo(f"reaped {answer['count']}: {names or 'it was reaped already'}")


def _show(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        return output.print_json(answer)
    flat = {key: value for key, value in answer.items() if not isinstance(value, dict) and key != "life"}
    flat["waiting_for"] = ", ".join(flat["waiting_for"]) or None
    rows = [*answer["identity"].items(), *flat.items(), *life_rows(answer["life"]), *answer["policy"].items()]
    return output.print_table(("", "value"), rows, "")


def _show_all(found: list[dict[str, Any]]) -> None:
    columns = ("id", "role", "swarm", "depth", "status", "mood", "inbox", "thoughts", "last tick")
    rows = [
        (
            state["identity"]["id"],
            state["identity"]["role"],
            state["identity"]["swarm_id"],
            state["identity"]["depth"],
            state["status"],
            mood(state["life"]),
            state["life"] and state["life"]["inbox_load"],
            state["thought_count"],
            output.ago(state["last_tick_at"]),
        )
        for state in found
    ]
    output.print_table(columns, rows, "no personas match")


COMMANDS = (personas, lineage)
