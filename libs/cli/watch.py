"""`perpetua watch`: the event stream, followed through restarts of the gateway."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable

import msgspec

from libs.cli.api import Api
from libs.cli.errors import CliError
from libs.contracts.thoughts import ThoughtEvent
from libs.supervisor.text import event_line, plain, plain_json, style

_decode = msgspec.json.Decoder(ThoughtEvent).decode

_AGAIN_S = 1.0
_PATIENCE_S = 60.0


def watch(api: Api, wanted: Callable[[ThoughtEvent], bool], after: int | None, as_json: bool) -> None:
    """Print events until Ctrl-C. A lost connection is taken up again where it ended."""
    place, lost_since = after, None
    while True:
        try:
            for name, identifier, data in api.follow(place):
                place, lost_since = identifier, None
                _show(name, identifier, data, wanted, as_json)
        except CliError:
            if place is None or (lost_since is not None and time.monotonic() - lost_since > _PATIENCE_S):
                raise
        if lost_since is None:
            lost_since = time.monotonic()
            print(style("the gateway is away; trying again", "yellow"), file=sys.stderr)
        time.sleep(_AGAIN_S)


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
