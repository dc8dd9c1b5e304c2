"""`perpetua replay`: a captured thought, thought again with something changed [H18]."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import Struct

from libs.cli.broker import connected, prepare
from libs.cli.errors import CliError
from libs.cli.model_folder import model_folder
from libs.contracts import streams, subjects
from libs.contracts.captures import Capture, CapturedSettings, Replayed
from libs.settings.broker import BrokerSettings
from libs.settings.cognition import PREFIX
from libs.supervisor.data_dir import DataDir

if TYPE_CHECKING:
    from libs.bus.connection import Bus

T = TypeVar("T")

_BROKER_WITHIN_S = 5.0
_BESIDES_S = 900.0
"""For what is not the model's answering: loading it above all."""

_ATTEMPTS = 2
_THINKER = f"{PREFIX}THINKER_"
_KEPT = frozenset({f"{_THINKER}API_KEY"})
_RANGES_SHOWN = 8
_FOLLOW = frozenset({"seed_given", "not_honoured"})
"""What follows from other settings."""

SWITCH_ON = (
    "Thinkers keep what PERPETUA_CAPTURE says: `sample` (the default: at most 20 thoughts a second of each), "
    "`all`, `failures` or `off`, and PERPETUA_MAX_CAPTURES of them. Set it to `all` and start again for "
    "every thought from then on; thoughts for which no model was asked are never captured"
)


class Changes(Struct, frozen=True, kw_only=True):
    """What is to be other than it was; null is as it was."""

    backend: str | None = None
    base_url: str | None = None
    model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    timeout_ms: int | None = None
    device: str | None = None

    def named(self) -> list[str]:
        """Return what is to be other than it was."""
        return [name for name, value in msgspec.structs.asdict(self).items() if value is not None]


def fetch(broker: BrokerSettings, persona_id: str, thought_count: int) -> Capture:
    """Return a captured thought. Raises `CliError` where it was not captured, saying which were."""
    prepare()
    return asyncio.run(_fetch(broker, persona_id, thought_count))


async def _fetch(broker: BrokerSettings, persona_id: str, thought_count: int) -> Capture:
    from libs.bus.errors import ApiRefused
    from libs.bus.read import last_of

    async with connected(broker, "perpetua-replay", _BROKER_WITHIN_S) as bus:
        try:
            subject = subjects.capture(persona_id, thought_count)
            found = await last_of(bus, streams.CAPTURES, subject)
            if found is not None:
                return msgspec.json.decode(found.data, type=Capture)
            raise _not_captured(persona_id, thought_count, await _captured(bus, persona_id))
        except ApiRefused as error:
            cure = " Run `perpetua provision`, or start `perpetua up` anew" if error.not_found else ""
            raise CliError(f"the broker at {broker.url} holds no captures: {error}.{cure}") from None


async def _captured(bus: Bus, persona_id: str) -> list[int]:
    """Return the numbers of a persona's captured thoughts."""
    wanted = {"subjects_filter": subjects.captures_of(persona_id)}
    info = await bus.api(f"STREAM.INFO.{streams.CAPTURES}", wanted)
    return sorted(int(name.rpartition(".")[2]) for name in info["state"].get("subjects") or {})


def _not_captured(persona_id: str, thought_count: int, captured: list[int]) -> CliError:
    if not captured:
        return CliError(
            f"no thought of {persona_id!r} is captured: is that its id, and did a model think? {SWITCH_ON}"
        )
    shown = ranges(captured)
    return CliError(
        f"thought {thought_count} of {persona_id!r} is not captured; captured are {shown}. {SWITCH_ON}"
    )


def ranges(numbers: Iterable[int]) -> str:
    """Return ascending numbers for people, `1 to 3, 7, 9 to 12`; of very many the newest."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [f"{first}" if first == last else f"{first} to {last}" for first, last in runs]
    return ", ".join((["…"] if len(shown) > _RANGES_SHOWN else []) + shown[-_RANGES_SHOWN:])


def think_again(capture: Capture, changes: Changes, data: DataDir) -> Replayed:
    """Have the captured prompt answered by the thinker's own code, in a process of its own.

    Pulled models are looked for in `data`. Raises `CliError`.
    """
    timeout_ms = int(_first(changes.timeout_ms, capture.settings.timeout_ms))
    within_s = _BESIDES_S + _ATTEMPTS * timeout_ms / 1000
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "services.thinker.replay",
                *(f"--changed={name}" for name in changes.named()),
            ],
            input=msgspec.json.encode(capture.prompt),
            env=environment(os.environ, capture.settings, changes, data),
            capture_output=True,
            timeout=within_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CliError(
            f"the thought cannot be replayed: no answer after {within_s:g} s; what thought of it was ended"
        ) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise CliError(
            f"the thought cannot be replayed: {said.splitlines()[-1] if said else 'no reason given'}"
        )
    return msgspec.json.decode(done.stdout, type=Replayed)


def environment(
    env: Mapping[str, str], was: CapturedSettings, changes: Changes, data: DataDir
) -> dict[str, str]:
    """Return the environment in which the captured settings hold, but for the changes.

    Of the caller's own settings of thinkers only the key of the endpoint counts: it is never captured.
    """
    backend = changes.backend or ("openai_compat" if changes.base_url is not None else was.backend)
    in_process = backend == "ctranslate2"
    _check(was, changes, backend)
    moved = changes.device is not None
    seed = changes.seed if changes.seed is not None else was.seed if was.seed_given or in_process else None
    wanted: dict[str, object] = {
        "ENABLED": "true",
        "BACKEND": backend,
        "BASE_URL": changes.base_url or was.endpoint,
        "MODEL": None if in_process else changes.model or was.model,
        "CT2_MODEL_PATH": _folder(was, changes, data) if in_process else None,
        "CT2_TOKENIZER_PATH": was.tokenizer_path if in_process and changes.model is None else None,
        "CT2_DEVICE": changes.device or was.device,
        "CT2_DEVICE_INDEX": None if moved else was.device_index,
        "CT2_COMPUTE_TYPE": None if moved and changes.device != was.device else was.compute_type,
        "CT2_LENGTH_STEP": was.length_step,
        "CT2_STATIC_PROMPT": was.static_prompt,
        "TEMPERATURE": _first(changes.temperature, was.temperature),
        "TOP_P": _first(changes.top_p, was.top_p),
        "MAX_TOKENS": _first(changes.max_tokens, was.max_tokens),
        "REPEAT_PENALTY": _first(changes.repeat_penalty, was.repeat_penalty),
        "REPEAT_LAST_N": was.repeat_last_n,
        "SEED": seed,
        "CONTEXT_WINDOW": was.window,
        "TIMEOUT_MS": _first(changes.timeout_ms, was.timeout_ms),
    }
    others = {name: value for name, value in env.items() if not name.startswith(_THINKER) or name in _KEPT}
    return others | {f"{_THINKER}{name}": str(value) for name, value in wanted.items() if value is not None}


def _check(was: CapturedSettings, changes: Changes, backend: str) -> None:
    """Raise `CliError` where the changes contradict each other or leave open what is to think."""
    if backend == "ctranslate2" and changes.base_url is not None:
        raise CliError("--base-url is for --backend openai_compat: a model in the process has no address")
    if backend != was.backend and changes.model is None:
        kind = "a model folder" if backend == "ctranslate2" else "the name that the endpoint knows"
        raise CliError(f"this thought was thought by {was.backend}: give --model too, {kind}")


def _folder(was: CapturedSettings, changes: Changes, data: DataDir) -> str:
    """Return the folder of the model that is to think; a pulled one was captured by its name."""
    if changes.model is None and was.model_path is not None:
        return was.model_path
    return str(model_folder(changes.model or was.model, data))


def _first(changed: T | None, was: T) -> T:
    return was if changed is None else changed


def differences(before: CapturedSettings, after: CapturedSettings) -> dict[str, tuple[object, object]]:
    """Return what is known to differ, by name: how it was, how it is."""
    old, new = msgspec.structs.asdict(before), msgspec.structs.asdict(after)
    left_out = {*_FOLLOW, *before.unknown()}
    if before.weights is None or after.weights is None:
        left_out.add("weights")
    return {name: (old[name], new[name]) for name in old if old[name] != new[name] and name not in left_out}


def as_plain(capture: Capture, replayed: Replayed, changed: dict[str, tuple[object, object]]) -> object:
    """Return everything for programs."""
    return msgspec.to_builtins(
        {
            "persona_id": capture.persona_id,
            "thought_count": capture.thought_count,
            "changed": {name: {"from": before, "to": after} for name, (before, after) in changed.items()},
            "unknown": capture.settings.unknown(),
            "captured": capture,
            "replayed": replayed,
        }
    )
