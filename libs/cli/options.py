"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from libs.cli.api import Api, checked_base, checked_token
from libs.settings.gateway import DEFAULT_GATEWAY_PORT
from libs.settings.process import process_reader, read_process
from libs.supervisor.data_dir import DataDir

F = TypeVar("F", bound=Callable[..., Any])

_DATA_DIR = (
    "Data folder, of the `perpetua up` that is meant.  "
    "[default: PERPETUA_DATA_DIR, else ~/.local/share/perpetua]"
)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
nats_url = click.option("--nats-url", metavar="URL", help="A broker of yours instead of the embedded one.")
data_dir = click.option(
    "--data-dir",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    callback=lambda _context, _option, chosen: folder(chosen),
    help=_DATA_DIR,
)


class Number(click.FloatRange):
    """A number in a range; `nan`, which no bound excludes, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number: float = super().convert(value, param, ctx)
        return number if number == number else self.fail(f"{value} is no number.", param, ctx)


def gateway(command: F) -> F:
    """Give a command the gateway to talk to, as `api`, and `--json`."""

    def chosen(context: click.Context, _: click.Parameter, url: str | None) -> str | None:
        context.ensure_object(dict)["gateway"] = url
        return url

    def token_chosen(context: click.Context, _: click.Parameter, file: Path | None) -> Path | None:
        if file is not None:
            text = file.read_text(errors="replace").strip()
            context.ensure_object(dict)["token"] = checked_token(text, str(file))
        return file

    command = as_json(command)
    command = click.option(
        "--token-file",
        metavar="FILE",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        is_eager=True,
        expose_value=False,
        callback=token_chosen,
        help="File with the token to show the gateway; else PERPETUA_API_TOKEN.",
    )(command)
    command = click.option(
        "--data-dir",
        "api",
        metavar="FOLDER",
        type=click.Path(path_type=Path),
        callback=_api,
        help=_DATA_DIR,
    )(command)
    return click.option(
        "--gateway",
        envvar="PERPETUA_GATEWAY_URL",
        metavar="URL",
        is_eager=True,
        expose_value=False,
        callback=chosen,
        help="Base URL of the gateway.",
    )(command)


def folder(chosen: Path | None) -> DataDir:
    """Return the chosen data folder, else the one of the settings. Raises `SettingError`."""
    if chosen is not None:
        return DataDir(chosen.expanduser().absolute())
    return DataDir(Path(read_process(process_reader(os.environ), "cli").data_dir).absolute())


def _api(context: click.Context, _: click.Parameter, chosen: Path | None) -> Api:
    """Return the gateway that is named, else that of the `up` in the data folder, else the default one."""
    said = context.ensure_object(dict)
    of_environment = os.environ.get("PERPETUA_API_TOKEN", "").strip()
    token = said.get("token") or checked_token(of_environment, "PERPETUA_API_TOKEN") or None
    if said.get("gateway") is not None:
        return Api(checked_base(str(said["gateway"])), token)
    run = folder(chosen).read()
    base = run.gateway_url if run is not None else f"http://127.0.0.1:{DEFAULT_GATEWAY_PORT}"
    return Api(base, token)
