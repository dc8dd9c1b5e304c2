"""`perpetua deadletters`: what was given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from libs.cli import options, output
from libs.cli.broker import broker_of
from libs.runtime.plain import plain
from libs.supervisor.data_dir import DataDir

if TYPE_CHECKING:
    from libs.cli.deadletters import Kept

_NUMBER = click.argument("number", metavar="N", type=click.IntRange(min=1))


@click.group()
def deadletters() -> None:
    """What no thinker could think, and what nobody could read."""


@deadletters.command("list")
@options.data_dir
@options.nats_url
@options.as_json
def list_command(data_dir: DataDir, nats_url: str | None, as_json: bool) -> None:
    """Show the dead letters that are kept, the oldest first."""
    from libs.cli.deadletters import letters

    found = letters(broker_of(data_dir, nats_url))
    if as_json:
        return output.print_json([kept.plain() for kept in found])
    rows = [
        (
            kept.number,
            output.ago(kept.letter.at),
            kept.letter.subject,
            kept.letter.deliveries,
            kept.about,
            kept.letter.reason,
        )
        for kept in found
    ]
    columns = ("number", "when", "subject", "deliveries", "about", "reason")
    return output.print_table(columns, rows, "no dead letters")


@deadletters.command()
@_NUMBER
@options.data_dir
@options.nats_url
@options.as_json
def show(number: int, data_dir: DataDir, nats_url: str | None, as_json: bool) -> None:
    """Show dead letter N with what it holds."""
    from libs.cli.deadletters import body_of, letter

    kept = letter(broker_of(data_dir, nats_url), number)
    if as_json:
        return output.print_json(kept.plain())
    click.echo(f"dead letter {number}, {output.ago(kept.letter.at)}, from {plain(kept.letter.subject)}")
    click.echo(f"reason: {plain(kept.letter.reason)}")
    work = kept.work
    if work is None:
        return click.echo(f"body: {plain(body_of(kept))}")
    for item in work.items:
        click.echo(f"thought {item.thought_count} of {plain(item.persona_id)}: {plain(item.charter)[:200]}")
    return None


@deadletters.command()
@_NUMBER
@options.data_dir
@options.nats_url
@options.as_json
def retry(number: int, data_dir: DataDir, nats_url: str | None, as_json: bool) -> None:
    """Try dead letter N once more.

    Thoughts are thought here, by the settings of thinkers in this command's environment, and shown: in the
    stream they stand as their declared fallbacks, and their personas have gone on. What could not be read is
    delivered once more, and its letter forgotten.
    """
    from libs.cli.deadletters import deliver_again, letter

    broker = broker_of(data_dir, nats_url)
    kept = letter(broker, number)
    if kept.work is not None:
        return _think(kept, as_json)
    deliver_again(broker, kept)
    if as_json:
        return output.print_json({"number": number, "delivered": kept.letter.subject})
    return click.echo(f"delivered to {plain(kept.letter.subject)} once more")


def _think(kept: Kept, as_json: bool) -> None:
    import msgspec

    from libs.cli.deadletters import think_again

    answers = []
    for item in kept.work.items if kept.work is not None else ():
        answer = think_again(item).answer
        thought = {"persona_id": item.persona_id, "thought_count": item.thought_count}
        answers.append(thought | {"answer": msgspec.to_builtins(answer)})
        if not as_json:
            said = answer.text if answer.text is not None else f"(nothing: {answer.error})"
            click.echo(f"thought {item.thought_count} of {plain(item.persona_id)}: {plain(said)}")
    if as_json:
        output.print_json({"number": kept.number, "thoughts": answers})


COMMANDS = (deadletters,)
