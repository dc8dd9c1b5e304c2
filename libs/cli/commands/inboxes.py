"""`perpetua send` and `inbox`: what is sent to personas."""

from __future__ import annotations

import sys
from typing import Any

import click

from libs.cli import options, output
from libs.cli.api import Api, segment
from libs.supervisor.text import brief

_CONTENT_SHOWN = 200


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="[PERSONA] TEXT")
@click.option("--swarm", help="Send it to every persona of this swarm; then only TEXT is given.")
@click.option(
    "--answers-most", type=click.IntRange(1, 1000), help="How many of a swarm may answer.  [default: 2]"
)
@click.option("--priority", type=options.Number(0, 1), help="0 to 1; worked out unless given.")
@click.option("--source", "source_id", help="Where it comes from: a room, a camera, a file.")
@click.option("--domain", help="What kind of thing it is.  [default: chat]")
@click.option("--mention", "mentions", multiple=True, help="A name that it mentions; may be repeated.")
@click.option("--wait", is_flag=True, help="Wait until it is handled, and print the response.")
@click.option(
    "--within",
    type=options.Number(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="Seconds to wait.",
)
@options.gateway
def send(
    words: tuple[str, ...],
    swarm: str | None,
    wait: bool,
    within: float,
    api: Api,
    as_json: bool,
    **given: Any,
) -> None:
    """Send TEXT to a persona, or to each of a swarm's.

    `-` as TEXT reads standard input as it comes, and sends each line that is not empty as an item of its own:
    `tail -F app.log | perpetua send --swarm watch -`. With --json each accepted line is a line of JSON.
    Bytes of a line that are not UTF-8 are sent as `\\xNN`; a TEXT that is not UTF-8 is refused.
    """
    from libs.cli import answers, sending
    from libs.cli.watch import end_of_events

    text = _text(words, swarm)
    to = sending.Target(swarm if swarm is not None else words[0], swarm is not None)
    fields = {name: value for name, value in given.items() if value not in (None, ())}
    if swarm is None and "answers_most" in fields:
        raise click.UsageError("--answers-most is for a --swarm: one persona answers or does not")
    if text == "-":
        if wait:
            raise click.UsageError("--wait waits for one item; leave it out with `-`")
        sys.exit(sending.send_lines(api, to, sys.stdin.buffer, fields, as_json=as_json))
    after = end_of_events(api) if wait else 0
    answer = sending.send(api, to, text, fields)
    if not wait:
        return output.print_json(answer) if as_json else click.echo(_accepted(answer))
    waiting = answers.Waiting(answer)
    status = answers.wait(api, to, waiting, after, within, as_json=as_json)
    if as_json:
        output.print_json(answer | {"ended": [vars(one) for one in waiting.ended]})
    sys.exit(status)


def _text(words: tuple[str, ...], swarm: str | None) -> str:
    """Return what is to be sent. Raises `UsageError` where it is not clear what is."""
    expected = 1 if swarm is not None else 2
    if len(words) == expected:
        return words[-1]
    if len(words) > expected:
        raise click.UsageError('more than one text is given; put it into quotes: send PERSONA "two words"')
    raise click.UsageError('name a persona and a text: send PERSONA "text"; or --swarm SWARM "text"')


def _accepted(answer: dict[str, Any]) -> str:
    if "post_id" in answer:
        return f"stored for {answer['personas']} personas as post {answer['post_id']}"
    return f"stored as {answer['item_id']}"


@click.command()
@click.argument("persona_id", metavar="PERSONA")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="The best so many."
)
@options.gateway
def inbox(persona_id: str, limit: int, api: Api, as_json: bool) -> None:
    """Show what waits in a persona's inbox, the best first."""
    found = api.get(f"/v1/swarm/personas/{segment(persona_id)}/inbox", limit=limit)
    if as_json:
        return output.print_json(found)
    columns = ("priority", "with waiting", "waited", "from", "attempts", "content")
    rows = [
        (
            f"{item['base_priority']:.2f}",
            f"{item['effective_priority']:.2f}",
            output.span(item["waited_s"]),
            item["source_id"] or item["domain"],
            f"{item['attempts']}, thought of now" if item["taken_up"] else item["attempts"],
            brief(item["content"], _CONTENT_SHOWN),
        )
        for item in found["items"]
    ]
    output.print_table(columns, rows, "nothing waits there")
    if found["held"] > len(rows):
        click.echo(f"{found['held']} in all; more with --limit")
    return None


COMMANDS = (send, inbox)
