"""`perpetua model`: fetching, converting and keeping models to think with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from libs.cli import options, output
from libs.cli.errors import CliError
from libs.supervisor.data_dir import DataDir

if TYPE_CHECKING:
    from libs.models.manifest import Manifest


@click.group()
def model() -> None:
    """Fetch models, convert them, and see what is there."""


@model.command()
@click.argument("name", metavar="[NAME[@REVISION]]", required=False)
@click.option(
    "--compute-type", metavar="TYPE", help="How weights are kept.  [default: int8, or bfloat16 with a GPU]"
)
@click.option("--as", "kept_as", metavar="NAME", help="Keep it under another name.")
@click.option("--token", envvar="HF_TOKEN", metavar="TOKEN", help="For gated models.  [default: HF_TOKEN]")
@options.data_dir
@options.as_json
def pull(
    name: str | None,
    compute_type: str | None,
    kept_as: str | None,
    token: str | None,
    data_dir: DataDir,
    as_json: bool,
) -> None:
    """Fetch a model, convert it for CTranslate2, and check it.

    NAME is qwen2.5-0.5b (the default), qwen2.5-1.5b, qwen3-0.6b, smollm2-360m, a repository `owner/name`,
    or a folder in Hugging Face's layout. Covered without torch: Qwen2, Qwen3 and Llama (SmolLM2 is one).
    TYPE is int8, int8_float32, int8_float16, int8_bfloat16, float16, bfloat16 or float32. A pull that was
    ended goes on where it was.
    """
    from libs.cli.pulling import screen
    from libs.models.errors import ModelError
    from libs.models.names import DEFAULT, parse
    from libs.models.pull import Pull, default_compute_type
    from libs.models.pull import pull as pull_model
    from libs.models.store import Store

    store = Store(data_dir.models)
    try:
        reference = parse(name or DEFAULT, kept_as)
        kind = compute_type or default_compute_type()
        with screen(as_json=as_json) as report:
            manifest, fresh = pull_model(Pull(reference, store, kind, token, report))
    except ModelError as error:
        raise CliError(str(error)) from None
    if as_json:
        return output.print_json(_record(manifest, store) | {"already_there": not fresh})
    return _say_pulled(manifest, store, fresh)


def _say_pulled(manifest: Manifest, store: Any, fresh: bool) -> None:
    from libs.models.needs import size

    checked = manifest.check
    if fresh:
        click.echo(
            f"checked  at {checked.tokens} tokens the logits are its source's: apart by at most "
            f"{checked.largest:.1g} of their standard deviation, {checked.same_first_choice:.0%} the same "
            "first choice"
        )
    there = "is there" if fresh else "was there already, at this revision and compute type"
    click.echo(f"ready    {manifest.name} {there}: {size(manifest.size)} in {store.folder(manifest)}")
    click.echo(f"\nThink with it:  perpetua up --model {manifest.name}")


@model.command("list")
@options.data_dir
@options.as_json
def list_command(data_dir: DataDir, as_json: bool) -> None:
    """Show the models that are there."""
    import msgspec

    from libs.models.needs import size
    from libs.models.store import Store

    store = Store(data_dir.models)
    found, unfinished = store.all(), store.unfinished()
    if as_json:
        return output.print_json(
            {"models": [_record(m, store) for m in found], "unfinished": msgspec.to_builtins(unfinished)}
        )
    output.print_table(
        ("name", "source", "licence", "compute type", "size", "made"),
        [
            (m.name, m.repo or m.folder, m.licence, m.compute_type, size(m.size), output.ago(m.made_at))
            for m in found
        ],
        "no model is there. Fetch one with `perpetua model pull`",
    )
    for left in unfinished:
        click.echo(
            f"not finished: {left.name}, {size(left.size)} so far. The same pull goes on, "
            f"`perpetua model rm {left.name}` removes it"
        )
    return None


@model.command()
@click.argument("name")
@options.data_dir
@options.as_json
def show(name: str, data_dir: DataDir, as_json: bool) -> None:
    """Show where a model is from and how it was made."""
    from libs.models.store import Store

    store = Store(data_dir.models)
    manifest = store.find(name)
    if manifest is None:
        raise CliError(store.absent(name))
    record = _record(manifest, store)
    if as_json:
        return output.print_json(record)
    flat = {key: value for key, value in record.items() if not isinstance(value, dict)}
    rows: list[tuple[str, object]] = [(key.replace("_", " "), value) for key, value in flat.items()]
    for group in ("check", "made_with", "files"):
        rows += [(f"{group.replace('_', ' ')}: {key}", value) for key, value in record[group].items()]
    return output.print_table(("", ""), rows, "")


@model.command()
@click.argument("name")
@options.data_dir
@options.as_json
def rm(name: str, data_dir: DataDir, as_json: bool) -> None:
    """Remove a model, and what an unfinished pull of it left."""
    from libs.models.errors import ModelError
    from libs.models.needs import size
    from libs.models.store import Store

    try:
        freed = Store(data_dir.models).remove(name)
    except ModelError as error:
        raise CliError(str(error)) from None
    if as_json:
        return output.print_json({"removed": name, "bytes": freed})
    return click.echo(f"removed {name}: {size(freed)} are free again")


def _record(manifest: Manifest, store: Any) -> dict[str, Any]:
    import msgspec

    record: dict[str, Any] = msgspec.to_builtins(manifest)
    return record | {"path": str(store.folder(manifest))}


COMMANDS = (model,)
