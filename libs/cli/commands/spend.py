"""`perpetua spend`: what thinking has cost."""

from __future__ import annotations

from difflib import get_close_matches
from http import HTTPStatus
from typing import Any

import click

from libs.cli import options, output
from libs.cli.api import Api, Refused
from libs.cli.errors import CliError
from libs.contracts.spending import SpendBy

_NO_KEY = {SpendBy.SWARM: "(none)"}
_SPEND = "/v1/swarm/spend"
_SWARMS_MOST = 1000


@click.command()
@click.option(
    "--by",
    type=click.Choice([by.value for by in SpendBy]),
    default=SpendBy.PERSONA.value,
    show_default=True,
    help="By what it is summed up: persona over whole lives, else over the newest 48 hours.",
)
@click.option("--swarm", help="Only this swarm's personas.")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many rows."
)
@options.gateway
def spend(by: str, swarm: str | None, limit: int, api: Api, as_json: bool) -> None:
    """Show tokens and time that thinking has cost.

    The most comes first; of hours, the newest.
    """
    page = _page(api, by, swarm, limit)
    if as_json:
        return output.print_json(page)
    total = page["total"]
    rows = [_row(row, total, by) for row in page["rows"]]
    output.print_table((by, "tokens", "share", "thoughts", "thinking"), rows, "nothing was spent")
    if rows:
        since = "" if page["since"] is None else f" since {page['since']}"
        more = f"; {page['left_out']} more with --limit" if page["left_out"] else ""
        thinking = output.span(total["cpu_ms"] / 1000)
        click.echo(
            f"{total['tokens']} tokens, {thinking} of thinking, {total['thoughts']} thoughts{since}{more}"
        )
    return None


def _page(api: Api, by: str, swarm: str | None, limit: int) -> Any:
    """Return what was spent. Raises `CliError`, for a swarm that is none with those whose name is near."""
    try:
        return api.get(_SPEND, by=by, swarm_id=swarm, limit=limit)
    except Refused as error:
        if swarm is None or error.status != HTTPStatus.NOT_FOUND:
            raise
        raise CliError(f"no swarm {swarm!r} is known{_near(api, swarm)}") from None


def _near(api: Api, swarm: str) -> str:
    rows = api.get(_SPEND, by=SpendBy.SWARM.value, limit=_SWARMS_MOST)["rows"]
    personas = api.get("/v1/swarm/personas", limit=_SWARMS_MOST)["personas"]
    known = {row["key"] for row in rows} | {one["identity"]["swarm_id"] for one in personas}
    close = get_close_matches(swarm, sorted(name for name in known if name is not None), 3)
    meant = f"; is {' or '.join(f'`{name}`' for name in close)} meant?" if close else ""
    return (
        f"{meant or '.'} `perpetua spend --by swarm` lists who has spent, `perpetua personas list` everybody"
    )


def _row(row: dict[str, Any], total: dict[str, Any], by: str) -> tuple[object, ...]:
    """Return a row with its share of the tokens, or of the time where no model reports tokens."""
    part, whole = ("tokens", total["tokens"]) if total["tokens"] else ("cpu_ms", total["cpu_ms"])
    share = row[part] / whole if whole else 0.0
    key = row["key"] if row["key"] is not None else _NO_KEY.get(SpendBy(by), "-")
    return key, row["tokens"], output.bar(share), row["thoughts"], output.span(row["cpu_ms"] / 1000)


COMMANDS = (spend,)
