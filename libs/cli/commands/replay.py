"""`perpetua replay`: what a persona thought, and what it would have thought otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from libs.cli import options, output
from libs.cli.broker import broker_of
from libs.contracts.limits import INTERVAL_CEILING_MS
from libs.runtime.plain import plain
from libs.supervisor.data_dir import DataDir

if TYPE_CHECKING:
    from libs.contracts.captures import CapturedSettings


@click.command()
@click.argument("persona")
@click.argument("number", metavar="N", type=click.IntRange(min=1))
@click.option("--model", help="Another model: a name for an endpoint, a folder for ctranslate2.")
@click.option("--temperature", type=click.FloatRange(0, 2))
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True))
@click.option("--max-tokens", type=click.IntRange(min=1))
@click.option("--repeat-penalty", type=click.FloatRange(0, 100, min_open=True))
@click.option("--seed", type=click.IntRange(min=0))
@click.option("--timeout-ms", type=click.IntRange(1, INTERVAL_CEILING_MS), help="Patience for each attempt.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), help="Where a model in the process runs."
)
@click.option("--backend", type=click.Choice(["ctranslate2", "openai_compat"]), help="What is to think.")
@click.option("--base-url", metavar="URL", help="Another OpenAI-compatible endpoint.")
@options.data_dir
@options.nats_url
@options.as_json
def replay(
    persona: str,
    number: int,
    model: str | None,
    temperature: float | None,
    top_p: float | None,
    max_tokens: int | None,
    repeat_penalty: float | None,
    seed: int | None,
    timeout_ms: int | None,
    device: str | None,
    backend: str | None,
    base_url: str | None,
    data_dir: DataDir,
    nats_url: str | None,
    as_json: bool,
) -> None:
    """Think thought N of a PERSONA again, with something changed.

    Both answers are shown. What is not named stays as it was. Nothing of it is stored.
    """
    from libs.cli.replay import Changes, as_plain, differences, fetch, think_again
    from libs.cli.side_by_side import facts, print_both, said

    changes = Changes(
        backend=backend,
        base_url=base_url,
        model=model,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        repeat_penalty=repeat_penalty,
        seed=seed,
        timeout_ms=timeout_ms,
        device=device,
    )
    capture = fetch(broker_of(data_dir, nats_url), persona, number)
    replayed = think_again(capture, changes, data_dir)
    changed = differences(capture.settings, replayed.settings)
    if as_json:
        return output.print_json(as_plain(capture, replayed, changed))
    when = f"{output.ago(capture.at)} by {plain(capture.thinker)}"
    click.echo(f"thought {number} of {plain(persona)} ({capture.phase}), {when}")
    for name, (before, after) in changed.items():
        click.echo(f"changed: {_words(name)} {_shown(before)} → {_shown(after)}")
    if not changed:
        click.echo("changed: nothing")
    _say_unknown(capture.settings, replayed.settings)
    _say_not_honoured(capture.settings, replayed.settings)
    if replayed.settings.temperature > 0:
        click.echo(
            "Both were sampled, so they may differ without any change; --temperature 0 does not sample."
        )
    click.echo()
    print_both(
        (
            f"captured: {facts(capture.settings, capture.answer)}",
            f"replayed: {facts(replayed.settings, replayed.answer)}",
        ),
        (said(capture.answer), said(replayed.answer)),
    )
    return None


def _say_unknown(before: CapturedSettings, after: CapturedSettings) -> None:
    unknown = [
        f"{_words(name)} (now {_shown(value)})"
        for name in before.unknown()
        if (value := getattr(after, name)) is not None and name != "not_honoured"
    ]
    if unknown:
        click.echo(f"unknown: {', '.join(unknown)}; an older version captured this and did not keep it")


def _say_not_honoured(before: CapturedSettings, after: CapturedSettings) -> None:
    """Say which settings what thinks now passes over, and whether what thought then did too."""
    now, then = after.not_honoured or [], before.not_honoured
    if not now and not then:
        return
    names = ", ".join(map(_words, now)) or "nothing"
    was = "unknown" if then is None else ", ".join(map(_words, then)) or "nothing"
    click.echo(f"not honoured: {names}" + ("" if now == then else f"; when it was captured: {was}"))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _shown(value: object) -> str:
    return "none" if value is None else plain(str(value))


COMMANDS = (replay,)
