"""`python -m services.thinker.replay`: answer one prompt, by the code that answers them all [H18].

The prompt comes on standard input, a `CapturedPrompt`, or with `--item` a `WorkItem`; the environment says
what answers it and how, as it does to a thinker. What comes of it goes to standard output, a `Replayed`. Exit
status 78 where the settings are wrong, with one line that says so.

Of a captured prompt's settings only those named by `--changed=FIELD` must be honoured: the others are as they
were, honoured or not.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Collection

import msgspec

from libs.contracts.captures import CapturedPrompt, Replayed
from libs.contracts.work import WorkItem
from libs.runtime import logs
from libs.runtime.process import ConfigurationError
from libs.settings.cognition import ThinkerSettings, cognition_reader, read_cognition
from libs.settings.reader import EX_CONFIG, SettingError
from services.thinker.backends.base import Backend
from services.thinker.backends.choosing import choose
from services.thinker.backends.honouring import check, ignored
from services.thinker.budget import fit
from services.thinker.capture import answer_of, field_of, settings_of
from services.thinker.prompt import Prompt


async def replay(
    work: CapturedPrompt | WorkItem, settings: ThinkerSettings, changed: Collection[str] = ()
) -> Replayed:
    """Answer a prompt. Raises `ConfigurationError` where the settings cannot be followed.

    Of a captured prompt's those need not be that are not `changed`.
    """
    backend = await choose(settings)
    try:
        if isinstance(work, CapturedPrompt):
            _check_changed(changed, backend)
        else:
            check(settings, backend)
        answer = await backend.answer(_prompt(work, backend))
        return Replayed(settings=settings_of(settings, backend), answer=answer_of(answer))
    finally:
        await backend.close()


def _check_changed(changed: Collection[str], backend: Backend) -> None:
    refused = [field for name in ignored(backend) if (field := field_of(name)) in changed]
    if refused:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in refused)
        raise ConfigurationError(
            f"{options} cannot be honoured by {backend.description}; leave it out, or choose another backend"
        )


def _prompt(work: CapturedPrompt | WorkItem, backend: Backend) -> Prompt:
    if isinstance(work, CapturedPrompt):
        return Prompt(work.system, work.user, work.prefill)
    return fit(work, backend.budget, backend.count).prompt


def main() -> int:
    """Answer what comes on standard input."""
    kind: type[CapturedPrompt | WorkItem] = WorkItem if "--item" in sys.argv[1:] else CapturedPrompt
    logs.configure(log_format="console", level="error", service="replay", instance="replay")
    changed = [name for _, given, name in (a.partition("--changed=") for a in sys.argv[1:]) if given]
    work = msgspec.json.decode(sys.stdin.buffer.read(), type=kind)
    try:
        settings = read_cognition(cognition_reader(os.environ)).thinker
        replayed = asyncio.run(replay(work, settings, changed))
    except (SettingError, ConfigurationError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - the one line that the command shows
        return EX_CONFIG
    sys.stdout.buffer.write(msgspec.json.encode(replayed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
