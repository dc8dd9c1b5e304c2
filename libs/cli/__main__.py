"""`perpetua`: the command line's entry."""

from __future__ import annotations

import sys

import click

from libs.cli.commands import (
    apply,
    backups,
    deadletters,
    inboxes,
    keys,
    loop,
    models,
    personas,
    processes,
    replay,
    spend,
    streams,
)
from libs.cli.errors import CliError
from libs.runtime.plain import plain
from libs.settings.reader import EX_CONFIG, SettingError
from libs.supervisor.errors import UpError


@click.group()
@click.version_option(package_name="perpetua")
def app() -> None:
    """Always-on persona swarms on NATS."""


_ALL = (
    processes, backups, keys, models, loop, personas, apply, inboxes, streams, spend, replay, deadletters,
)  # fmt: skip
for commands in _ALL:
    for command in commands.COMMANDS:
        app.add_command(command)


def main() -> None:
    """Run a command; an error is one line on standard error and the exit status."""
    try:
        app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SettingError as error:
        _end(error, EX_CONFIG)
    except UpError as error:
        _end(error, error.status)
    except CliError as error:
        _end(error, 1)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


def _end(error: Exception, status: int) -> None:
    text = "\n".join(plain(line) for line in str(error).split("\n"))  # it may quote what a persona said
    print(f"perpetua: {text}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
