"""`perpetua status`, `start`, `stop`: the loop."""

from __future__ import annotations

from typing import Any

import click

from libs.cli import options, output
from libs.cli.api import Api


@click.command()
@options.gateway
def status(api: Api, as_json: bool) -> None:
    """Show the loop as it is now."""
    show(api.get("/v1/cognition/status"), as_json)


@click.command()
@click.option("--interval", type=click.IntRange(min=0), help="Milliseconds between thoughts, 100 at least.")
@options.gateway
def start(interval: int | None, api: Api, as_json: bool) -> None:
    """Start the loop, or change its interval."""
    body = {"loop_interval_ms": interval} if interval is not None else None
    show(api.post("/v1/cognition/start", body), as_json)


@click.command()
@click.option("--reason", help="Announced in the event stream.")
@options.gateway
def stop(reason: str | None, api: Api, as_json: bool) -> None:
    """Stop the loop. Returns once no thought can appear any more."""
    body = {"reason": reason} if reason is not None else None
    show(api.post("/v1/cognition/stop", body), as_json)


def show(answer: dict[str, Any], as_json: bool) -> None:
    """Show a status, and why nobody thinks where nobody is left."""
    if as_json:
        output.print_json(answer)
        return
    circuits, policy = answer.pop("circuits", ()), answer.pop("default_policy", None) or {}
    rows = [*answer.items(), *((f"default_policy: {name}", value) for name, value in policy.items())]
    rows += [(f"endpoint of {one['thinker']}", _told(one)) for one in circuits]
    output.print_table(("", "now"), rows, "")
    if answer["running"] and not answer["active_persona_count"]:
        there = answer["persona_count"]
        why = f"none of {there} personas is active" if there else "there is no persona"
        click.echo(f"Nobody thinks: {why}. `perpetua personas create` makes one.")


def _told(circuit: dict[str, Any]) -> str:
    """Return in words whether a thinker asks its endpoint."""
    words = f"circuit {circuit['state'].replace('_', ' ')}, {circuit['endpoint']}"
    if circuit["until"] is not None:
        words += f", left alone until {circuit['until']}"
    return words if circuit["because"] is None else f"{words}: {circuit['because']}"


COMMANDS = (status, start, stop)
