"""`python -m services.thinker.replay`: answer one captured prompt, by the code that answers them all [H18].

The prompt comes on standard input, a `CapturedPrompt`; the environment says what answers it and how, as it
does to a thinker. What comes of it goes to standard output, a `Replayed`. Exit status 78 where the settings
are wrong, with one line that says so.
"""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec

from libs.contracts.captures import CapturedPrompt, Replayed
from libs.runtime import logs
from libs.runtime.process import ConfigurationError
from libs.settings.cognition import ThinkerSettings, cognition_reader, read_cognition
from libs.settings.reader import EX_CONFIG, SettingError
from services.thinker.backends.choosing import choose
from services.thinker.backends.honouring import check
from services.thinker.capture import answer_of, settings_of
from services.thinker.prompt import Prompt


async def replay(prompt: CapturedPrompt, settings: ThinkerSettings) -> Replayed:
    """Answer a prompt. Raises `ConfigurationError` where the settings cannot be followed."""
    backend = await choose(settings)
    try:
        check(settings, backend)
        answer = await backend.answer(Prompt(prompt.system, prompt.user))
        return Replayed(settings=settings_of(settings, backend), answer=answer_of(answer))
    finally:
        await backend.close()


def main() -> int:
    """Answer what comes on standard input."""
    logs.configure(log_format="console", level="error", service="replay", instance="replay")
    prompt = msgspec.json.decode(sys.stdin.buffer.read(), type=CapturedPrompt)
    try:
        settings = read_cognition(cognition_reader(os.environ)).thinker
        replayed = asyncio.run(replay(prompt, settings))
    except (SettingError, ConfigurationError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - the one line that the command shows
        return EX_CONFIG
    sys.stdout.buffer.write(msgspec.json.encode(replayed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
