"""Settings of a process as such: its name, its logs, its bounds. Prefix `PERPETUA_`."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from libs.contracts.limits import INTERVAL_CEILING_MS, NOVELTY_THRESHOLD
from libs.contracts.permissions import ADMIN, SERVICES
from libs.settings.broker import BrokerSettings, read_broker
from libs.settings.gateway import GatewaySettings, read_gateway
from libs.settings.reader import Reader

PREFIX = "PERPETUA_"

CANCELLING_S = 2.0
"""What a process takes at most, beyond its drain, to end what outlasts it."""

_PORT_MOST = 65535
_LEVELS = {name: name for name in ("debug", "info", "warning", "error")}
_CAPTURES = {name: name for name in ("off", "failures", "sample", "all")}
_FORMATS = {name: name for name in ("auto", "console", "json")}


class ProcessSettings(Struct, frozen=True, kw_only=True):
    """What every process needs to run."""

    nats: BrokerSettings
    instance: str
    log_format: str
    """`console`, `json`, or `auto`: console on a terminal."""

    log_level: str
    metrics_host: str
    metrics_port: int
    """0: any free port, told by presence."""

    drain_ms: int
    """Milliseconds a process may take to finish what is in flight after SIGTERM."""

    restarts: int
    """How often the supervisor has restarted this instance."""

    data_dir: str
    replicas: int
    sync_always: bool
    """Whether the broker flushes every write to the disk before it acknowledges it."""

    max_proposals: int
    capture: str
    """`off`, `failures`, `sample` or `all`."""

    max_captures: int
    max_inbox_bytes: int
    roll_up_interval_ms: int
    """Milliseconds between two roll-ups of one swarm's memory."""

    novelty_threshold: float
    """A thinker marks a thought of less novelty as one that repeats."""

    gateway: GatewaySettings

    @property
    def ends_within_s(self) -> float:
        """Seconds after SIGTERM within which a process has ended by itself."""
        return self.drain_ms / 1000 + CANCELLING_S


def process_reader(env: Mapping[str, str]) -> Reader:
    """Return the reader of this project's own settings."""
    return Reader(env, PREFIX)


def read_process(read: Reader, service: str) -> ProcessSettings:
    """Read and validate. Raises `SettingError` for the first value that is not allowed."""
    return ProcessSettings(
        nats=read_broker(read, service if service in SERVICES else ADMIN),
        instance=read.text("INSTANCE", None, "name of this process, unique in its service")
        or f"{service}-{socket.gethostname()}-{secrets.token_hex(4)}",
        log_format=read.choice("LOG_FORMAT", "auto", _FORMATS, "console on a terminal, else JSON"),
        log_level=read.choice("LOG_LEVEL", "info", _LEVELS, "least level that is logged"),
        metrics_host=read.text("METRICS_HOST", "127.0.0.1", "address of /metrics, /livez, /readyz") or "",
        metrics_port=read.integer(
            "METRICS_PORT", 0, "its port; 0 takes a free one, as `up` always does", most=_PORT_MOST
        ),
        drain_ms=read.integer("DRAIN_MS", 8000, "milliseconds to finish after SIGTERM", most=600_000),
        restarts=read.integer("RESTARTS", 0, "set by the supervisor"),
        data_dir=str(_data_dir(read)),
        replicas=read.integer("REPLICAS", 1, "replicas of each stream", least=1, most=5),
        sync_always=read.boolean(
            "SYNC_ALWAYS",
            False,
            "the broker flushes before it acknowledges: streams suit it (nats-server 2.12), and `up` starts "
            "it so; a broker of yours needs `sync_interval: always`, too",
        ),
        max_proposals=read.integer("MAX_PROPOSALS", 10_000, "proposals kept", least=1, most=2**31),
        capture=read.choice(
            "CAPTURE",
            "sample",
            _CAPTURES,
            "thoughts kept for `perpetua replay`; `sample`: at most 20 a second of a thinker",
        ),
        max_captures=read.integer("MAX_CAPTURES", 2000, "captured thoughts kept", least=1, most=2**31),
        max_inbox_bytes=read.integer(
            "MAX_INBOX_BYTES", 2**26, "bytes of all inboxes together", least=2**20, most=2**40
        ),
        roll_up_interval_ms=read.integer(
            "ROLL_UP_INTERVAL_MS",
            60_000,
            "milliseconds between two roll-ups of a swarm's memory",
            least=100,
            most=INTERVAL_CEILING_MS,
        ),
        novelty_threshold=read.number(
            "NOVELTY_THRESHOLD",
            NOVELTY_THRESHOLD,
            "thoughts of less novelty repeat: no progress, and they wake nobody; thinkers read it",
            least=0,
            most=1,
        ),
        gateway=read_gateway(read, listens=service in ("gateway", "up")),
    )


def _data_dir(read: Reader) -> Path:
    default = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "perpetua"
    chosen = read.text("DATA_DIR", None, "folder of `perpetua up`: streams, models, logs")
    return Path(chosen).expanduser() if chosen else default
