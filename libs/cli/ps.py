"""`perpetua ps`: the processes that live or are given up, from the run file and from what they say."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import msgspec

from libs.cli.broker import broker_of, prepare
from libs.cli.errors import CliError
from libs.contracts.presence import PresenceRecord
from libs.settings.broker import BrokerSettings, addresses
from libs.supervisor.child import GIVEN_UP
from libs.supervisor.data_dir import ChildRecord, DataDir, RunRecord
from libs.supervisor.stats import Stats, stats

ORDER = ("registry", "scheduler", "thinker", "compressor", "gateway", "nats")

_ANSWER_WITHIN_S = 3.0
_SILENT = "it has not said anything yet, or the broker is away"


def processes(folder: DataDir, nats_url: str | None) -> list[dict[str, Any]]:
    """Return a row for each process that lives or is given up, in the order of services, then instances."""
    run = folder.read() if nats_url is None else None
    broker = broker_of(folder, nats_url)
    said = {(record.service, record.instance): record for record in asyncio.run(_present(broker))}
    rows = (
        _supervised(run, said, broker.url) if run is not None else [_row(record) for record in said.values()]
    )
    return sorted(rows, key=lambda row: (_place(row["service"]), row["service"], row["instance"]))


def _place(service: str) -> int:
    """Return a service's place in the order; a newer version's, or a stranger's, is behind those known."""
    return ORDER.index(service) if service in ORDER else len(ORDER)


def run_so_far(folder: DataDir, nats_url: str | None) -> Stats:
    """Return how long thoughts took and what became of them, of the processes that live.

    Raises `CliError` where no broker is known or none answers.
    """
    broker = broker_of(folder, nats_url)
    records = asyncio.run(_present(broker))
    if not records:
        raise CliError(f"nobody says anything at {broker.url}: the broker is away, or no process has started")
    return stats(records)


def _supervised(
    run: RunRecord, said: dict[tuple[str, str], PresenceRecord], url: str
) -> list[dict[str, Any]]:
    """Return the supervisor's living children with what they say, and living strangers on the same broker."""
    rows = []
    known = {(child.service, child.instance) for child in run.children}
    for child in run.children:
        if child.service == "nats":
            if child.lives():
                rows.append(_silent_row(child, because=None if _listens(url) else _SILENT))
        elif child.state == "misconfigured":
            rows.append(_silent_row(child, because=f"{GIVEN_UP} ({child.last_words})"))
        elif child.lives():
            record = said.get((child.service, child.instance))
            current = record is not None and record.pid == child.pid
            rows.append(_row(record) if record is not None and current else _silent_row(child))
    rows += [_row(record) for key, record in said.items() if key not in known]
    return rows


def _row(record: PresenceRecord) -> dict[str, Any]:
    row: dict[str, Any] = {
        "service": record.service,
        "instance": record.instance,
        "pid": record.pid,
        "ready": record.ready,
        "since": record.since,
        "restarts": record.restarts,
        "last_activity": record.last_activity,
        "last_activity_at": record.last_activity_at,
        "not_ready_because": record.not_ready_because,
        "host": record.host,
        "metrics_port": record.metrics_port,
        "summary": record.summary,
    }
    plain: dict[str, Any] = msgspec.to_builtins(row)
    return plain


def _silent_row(child: ChildRecord, because: str | None = _SILENT) -> dict[str, Any]:
    """Return the row of a process that says nothing; `because` is why it is not ready, None where it is."""
    row: dict[str, Any] = {
        "service": child.service,
        "instance": child.instance,
        "pid": child.pid,
        "ready": because is None,
        "since": child.since,
        "restarts": child.restarts,
        "last_activity": None,
        "last_activity_at": None,
        "not_ready_because": because,
        "host": socket.gethostname(),
        "metrics_port": None,
        "summary": None,
    }
    plain: dict[str, Any] = msgspec.to_builtins(row)
    return plain


def _listens(url: str) -> bool:
    """Whether a broker answers there; of several, any."""
    return any(_says_info(address) for address in addresses(url))


def _says_info(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, timeout=1.0) as connection:
            connection.settimeout(1.0)
            return connection.recv(4) == b"INFO"
    except OSError:
        return False


async def _present(broker: BrokerSettings) -> list[PresenceRecord]:
    """Return what processes say of themselves; nothing while the broker does not answer.

    Raises `CliError` where the broker refuses us.
    """
    prepare()
    if not _listens(broker.url):
        return []
    from libs.bus.connection import connect
    from libs.bus.errors import BusError
    from libs.bus.presence import list_present
    from libs.bus.telemetry import LastFault

    faults = LastFault()
    try:
        async with asyncio.timeout(_ANSWER_WITHIN_S), connect(broker, "perpetua-ps", faults) as bus:
            return await list_present(bus)
    except (TimeoutError, BusError):
        if faults.last is not None and faults.last.kind in ("refused", "denied"):
            raise CliError(faults.why(broker.url)) from None
        return []
