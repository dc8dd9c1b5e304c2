"""`perpetua watch` and `snapshots`: what the loop emits."""

from __future__ import annotations

import click

from libs.cli import options, output
from libs.cli.api import Api
from libs.contracts.thoughts import EventType, OwnEventType, ThoughtEvent


@click.command()
@click.option("--persona", help="Only this persona.")
@click.option("--swarm", help="Only this swarm.")
@click.option(
    "--type",
    "kind",
    type=click.Choice([kind.value for kind in (*EventType, *OwnEventType)]),
    metavar="TYPE",
    help="Only this event type.",
)
@click.option("--after", type=click.IntRange(min=0), help="Begin behind this event; 0: the oldest held.")
@options.gateway
def watch(
    persona: str | None, swarm: str | None, kind: str | None, after: int | None, api: Api, as_json: bool
) -> None:
    """Follow the event stream, through restarts of the gateway."""
    from libs.cli.watch import say_whom_nobody_knows
    from libs.cli.watch import watch as follow

    def wanted(event: ThoughtEvent) -> bool:
        return (
            (persona is None or event.persona_id == persona)
            and (swarm is None or event.swarm_id == swarm)
            and (kind is None or event.event_type == kind)
        )

    say_whom_nobody_knows(api, persona, swarm)
    follow(api, wanted, after, as_json)


@click.command()
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="The newest so many."
)
@options.gateway
def snapshots(limit: int, api: Api, as_json: bool) -> None:
    """Show the newest memory snapshots."""
    last = api.get("/v1/cognition/snapshots", after=0, limit=1)["last_sequence"]
    page = api.get("/v1/cognition/snapshots", after=max(last - limit, 0), limit=limit)
    if as_json:
        return output.print_json(page["snapshots"])
    rows = [
        (
            entry["sequence"],
            output.ago(entry["snapshot"]["generated_at"]),
            ", ".join(entry["snapshot"]["persona_scope"]),
            entry["snapshot"]["summary"][:200],
        )
        for entry in page["snapshots"]
    ]
    return output.print_table(("sequence", "made", "personas", "summary"), rows, "no snapshots yet")


COMMANDS = (watch, snapshots)
