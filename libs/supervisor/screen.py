"""What `perpetua up` prints: addresses, what thinks and why, a line per thought, and what goes wrong."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import msgspec

from libs.contracts import subjects
from libs.contracts.presence import PresenceRecord
from libs.contracts.thoughts import ThoughtEvent
from libs.supervisor.output import unblocked
from libs.supervisor.stats import Stats, lines
from libs.supervisor.text import brief, event_line, plain_json, style

_LINES_PER_SECOND = 20
_SHOWN_LEVELS = ("warning", "error", "critical")
_SAID_BY_US = frozenset({"broker_away", "waiting_for_broker"})
_GOOD_NEWS = frozenset({"endpoint_back", "captures_back"})
"""Shown although they are routine: they end a trouble that was shown."""

_FIELDS_LEFT_OUT = frozenset({"event", "level", "timestamp", "service", "instance"})


_decode = msgspec.json.Decoder(ThoughtEvent).decode


class Screen:
    """Prints for people, or one JSON object a line for programs."""

    def __init__(self, out: TextIO, errors: TextIO, *, as_json: bool, quiet: bool) -> None:
        self.errors = errors
        """Where this process's own logs go."""

        self.quiet = quiet
        """Whether thoughts are left out."""

        self._out = out
        self._json = as_json
        self._second = 0
        self._shown = 0
        self._hidden = 0

    def tiny_model(self) -> None:
        """Say what the tiny model is good for."""
        if not self._json:
            self._print("model    tiny: random weights make gibberish, on a path that is the real one")

    def addresses(self, gateway: str, nats: str) -> None:
        """Say where everything is."""
        if self._json:
            return self._emit("addresses", gateway=gateway, nats=nats)
        self._print(f"{style('gateway', 'bold')}  {gateway}   API: {gateway}/schema")
        self._print(f"{style('broker', 'bold')}   {nats}   nats sub '{subjects.EVENTS}'")
        return None

    def ready(self, there: list[PresenceRecord], given_up: list[str]) -> None:
        """Say that everybody is ready but who is given up, and what thinks and why."""
        thinkers = [record for record in there if record.service == "thinker" and record.summary is not None]
        thinks = sorted({record.summary.thinks_with or "" for record in thinkers if record.summary})
        if self._json:
            return self._emit("ready", thinks_with=thinks, given_up=given_up)
        for text in thinks:
            self._print(f"{style('thinks', 'bold')}   {brief(text, 400)}")
        if any(text.startswith("nothing") for text in thinks):
            self._print(style(_NOTHING, "yellow"))
        if given_up:
            self._print(style(f"without  {', '.join(given_up)}: see above, or `perpetua ps`", "red"))
        self._print(f"{style('ready', 'green')}    `perpetua ps` shows the processes; Ctrl-C stops them all")
        return None

    def waiting_for(self, missing: list[str]) -> None:
        """Say who is not ready yet."""
        self._say("waiting", f"waiting for {', '.join(missing)}", "yellow")

    def broker_away(self, url: str) -> None:
        """Say that the broker does not answer."""
        self._say(
            "broker_away", f"the broker at {url} is away; everything waits for it, nothing is lost", "yellow"
        )

    def disk_full(self, streams: Path) -> None:
        """Say that the broker cannot write."""
        self._say(
            "disk_full",
            f"the disk that holds {streams} is full; make room: everything waits for it, nothing is lost",
            "red",
        )

    def disk_has_room(self) -> None:
        """Say that the broker is started again, since it can write now."""
        self._say("disk_has_room", "there is room on the disk again; the broker starts anew", "green")

    def broker_back(self) -> None:
        """Say that the broker answers again."""
        self._say("broker_back", "the broker is back", "green")

    def run(self, found: Stats) -> None:
        """Show what became of thoughts in this run, and how long their stages took."""
        if self._json:
            return self._emit("run", **msgspec.to_builtins(found))
        for text in lines(found):
            self._print(text)
        return None

    def stopping(self) -> None:
        """Say that everything is being stopped."""
        text = "stopping: thoughts in flight are finished and stored … (Ctrl-C again: to end at once)"
        self._say("stopping", text, "")

    def ending_at_once(self) -> None:
        """Say that nothing is waited for any more."""
        self._say(
            "ending_at_once", "ending at once: thoughts in flight are thought anew at the next start", ""
        )

    def stopped(self, kept_in: Path | None) -> None:
        """Say that nothing runs any more, and where the streams are, if they are ours."""
        self._say("stopped", f"stopped; what was thought is kept in {kept_in}" if kept_in else "stopped", "")

    def line(self, instance: str, text: str) -> None:
        """Show a line of a process, if it is more than routine."""
        record = _json_object(text)
        if record is None:
            if text.strip() and instance != "nats-1":
                self._say("process", f"{instance}: {brief(text, 500)}", "yellow", instance=instance)
            return
        news = record.get("event") in _GOOD_NEWS
        if news or (record.get("level") in _SHOWN_LEVELS and record.get("event") not in _SAID_BY_US):
            fields = " ".join(f"{k}={v}" for k, v in record.items() if k not in _FIELDS_LEFT_OUT)
            text = f"{instance}: {record.get('event', '')} {fields}"
            self._say("process", brief(text, 500), "green" if news else "yellow", instance=instance)

    def thought(self, data: bytes) -> None:
        """Show an event, given its JSON; so many lines a second at most."""
        second = int(time.monotonic())
        if second != self._second:
            if self._hidden:
                self._say("hidden", f"… and {self._hidden} more", "dim")
            self._second, self._shown, self._hidden = second, 0, 0
        if self._shown >= _LINES_PER_SECOND:
            self._hidden += 1
            return
        self._shown += 1
        event = _decode(data)
        if self._json:
            self._print(plain_json(msgspec.json.encode(event).decode()))
        else:
            self._print(event_line(event, shutil.get_terminal_size((120, 24)).columns))

    def _print(self, line: str) -> None:
        self._out.write(f"{line}\n")

    def _say(self, kind: str, text: str, color: str, **fields: str) -> None:
        self._print(_said(self._json, kind, text, color, **fields))

    def _emit(self, kind: str, **fields: object) -> None:
        self._print(_object(kind, **fields))


@contextmanager
def screen(*, as_json: bool, quiet: bool) -> Iterator[Screen]:
    """Yield a screen that a blocked terminal does not hold up. Raises `UpError`."""

    def left_out(lines: int) -> str:
        text = f"… {lines} lines are left out here: what `up` prints was not taken up"
        return _said(as_json, "left_out", text, "dim", lines=lines)

    with unblocked(sys.stdout, left_out) as out, unblocked(sys.stderr, left_out) as errors:
        yield Screen(out, errors, as_json=as_json, quiet=quiet)


def _said(as_json: bool, kind: str, text: str, color: str, **fields: object) -> str:
    return _object(kind, text=text, **fields) if as_json else style(text, color)


def _object(kind: str, **fields: object) -> str:
    return json.dumps({"up": kind, **fields})


_NOTHING = (
    "         Every thought is the declared fallback until there is a model. Fetch one with `perpetua model\n"
    "         pull`, or start Ollama (both are looked for every 30 s); or `perpetua up --model FOLDER`, or\n"
    "         `--model tiny` to see the real path work."
)


def _json_object(text: str) -> dict[str, object] | None:
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
