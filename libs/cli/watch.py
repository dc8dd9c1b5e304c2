"""`perpetua watch`: the event stream, followed through restarts of the gateway."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

import msgspec

from libs.cli.api import Api, GatewayAway, Refused, segment
from libs.cli.errors import CliError
from libs.contracts.thoughts import ThoughtEvent
from libs.runtime.plain import plain
from libs.supervisor.text import event_line, plain_json, style

_decode = msgspec.json.Decoder(ThoughtEvent).decode

_AGAIN_S = 1.0
_PATIENCE_S = 60.0
_SILENT_S = 60.0


class TimeIsUp(CliError):
    """What was waited for has not come in time."""


def watch(api: Api, wanted: Callable[[ThoughtEvent], bool], after: int | None, as_json: bool) -> None:
    """Print events until Ctrl-C; from now on, unless it is said behind which one."""
    for name, identifier, data in followed(api, end_of_events(api) if after is None else after):
        _show(name, identifier, data, wanted, as_json)


def say_whom_nobody_knows(api: Api, persona: str | None, swarm: str | None) -> None:
    """Say on standard error that a persona, or a swarm, is not there: misspelt, perhaps, or yet to come."""
    try:
        if persona is not None:
            api.get(f"/v1/swarm/personas/{segment(persona)}")
        if swarm is not None and not api.get("/v1/swarm/personas", swarm_id=swarm, limit=1)["personas"]:
            _say_unknown(f"No persona of swarm {swarm} is known")
    except GatewayAway:
        return
    except Refused as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        _say_unknown(str(error))


def _say_unknown(text: str) -> None:
    print(style(f"{plain(text)}; events are shown once there are any", "yellow"), file=sys.stderr)


def end_of_events(api: Api) -> int:
    """Return the last event's sequence: what comes from now on is behind it."""
    last: int = api.get("/v1/cognition/events", limit=1)["last_sequence"]
    return last


def followed(api: Api, after: int, within: float = math.inf) -> Iterator[tuple[str, int | None, str]]:
    """Yield name, id and data of events. A lost connection is taken up again where it ended.

    Raises `TimeIsUp` once so many seconds have passed, and up to 15 more where no event comes meanwhile,
    `Refused` where the gateway lets us in no longer, or `CliError` where it stays away.
    """
    place, lost_since = after, None
    clock = time.monotonic
    end = clock() + within
    while (left := end - clock()) > 0:
        try:
            for name, identifier, data in api.follow(place, min(left, _SILENT_S)):
                lost_since = None
                if name:
                    place = place if identifier is None else identifier
                    yield name, identifier, data
                if clock() >= end:
                    break
        except Refused:
            raise
        except CliError:
            lost_for = clock() - lost_since if lost_since is not None else 0.0
            if clock() < end and lost_for > _PATIENCE_S:
                raise
        if clock() < end:
            if lost_since is None:
                lost_since = clock()
                print(style("the gateway is away; trying again", "yellow"), file=sys.stderr)
            time.sleep(_AGAIN_S)
    raise TimeIsUp(f"nothing within {within:g} s")


def _show(
    name: str, identifier: int | None, data: str, wanted: Callable[[ThoughtEvent], bool], as_json: bool
) -> None:
    if name == "lag":
        return print(json.dumps({"lag": data}) if as_json else style(plain(data), "yellow"), flush=True)
    event = _decode(data.encode())
    if not wanted(event):
        return None
    if as_json:
        line = plain_json(json.dumps({"sequence": identifier, **json.loads(data)}, ensure_ascii=False))
    else:
        line = event_line(event, shutil.get_terminal_size((120, 24)).columns)
    return print(line, flush=True)
