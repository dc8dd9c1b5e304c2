"""Making the streams, buckets and consumers: an admin step, safe to repeat. `python -m libs.bus.provision`.

Settings that JetStream can change in place (bounds, replicas) are brought up to date; everything else must
match, and a difference is an error that names it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from libs.bus.connection import Bus
from libs.bus.errors import ApiRefused, BusError, NoAnswer
from libs.contracts import streams
from libs.contracts.limits import PAYLOAD_BYTES
from libs.contracts.streams import StreamBounds, StreamSpec

log = structlog.get_logger("provision")

_CREATE = "CREATE"
_RETRY_S = 0.25
_SAY_EVERY_S = 5.0
"""Whoever is quicker than the provisioning waits for it without a word, up to so many seconds."""

_API_WAIT_S = 20.0


class ProvisionError(BusError):
    """The broker cannot hold what the system needs."""


async def provision(bus: Bus, bounds: StreamBounds) -> list[str]:
    """Make or update every stream and consumer; return the names of those that were changed.

    Raises `ProvisionError`, once the streams that it has made are removed again [H5].
    """
    await _check_server(bus)
    made: list[str] = []
    changed: list[str] = []
    try:
        for spec in streams.specs(bounds):
            if (verb := await _ensure_stream(bus, spec)) is not None:
                changed.append(spec.name)
                if verb == _CREATE:
                    made.append(spec.name)
        await _ensure_consumer(bus)
    except ProvisionError as error:
        if not made:
            raise
        removed = [name for name in made if await _remove_unused(bus, name)]
        raise ProvisionError(
            f"{error}. Of {len(made)} streams made before that {len(removed)} are removed again; what was "
            "there already is left as it is"
        ) from error
    return changed


async def _ensure_consumer(bus: Bus) -> None:
    subject = f"CONSUMER.DURABLE.CREATE.{streams.THINK}.{streams.THINKERS}"
    try:
        await _api(bus, subject, {"stream_name": streams.THINK, "config": streams.thinkers_consumer()})
    except ApiRefused as error:
        raise ProvisionError(f"consumer {streams.THINKERS}: {error.description}") from error


async def _remove_unused(bus: Bus, stream: str) -> bool:
    """Remove a stream in which nobody has stored anything yet; whether it was."""
    try:
        state = (await bus.api(f"STREAM.INFO.{stream}"))["state"]
        if state["last_seq"]:
            return False
        await bus.api(f"STREAM.DELETE.{stream}")
    except BusError as error:
        log.warning("stream_not_removed", stream=stream, error=str(error))
        return False
    return True


async def wait_until_provisioned(bus: Bus) -> None:
    """Return once the streams are there, saying every few seconds that they are missing."""
    waited = 0.0
    while True:
        try:
            await bus.api(f"CONSUMER.INFO.{streams.THINK}.{streams.THINKERS}")
            return
        except (ApiRefused, NoAnswer) as error:
            missing = str(error)
        await asyncio.sleep(_RETRY_S)
        waited += _RETRY_S
        if waited % _SAY_EVERY_S == 0.0:
            log.warning("waiting_for_streams", error=missing, cure="run `perpetua provision`")


async def _check_server(bus: Bus) -> None:
    version = bus.client.connected_server_version
    if (version.major, version.minor) < streams.MIN_SERVER_VERSION:
        wanted = ".".join(map(str, streams.MIN_SERVER_VERSION))
        raise ProvisionError(f"nats-server {version.major}.{version.minor} is too old; use {wanted} or newer")
    if bus.client.max_payload < PAYLOAD_BYTES:
        raise ProvisionError(
            f"the broker takes messages of {bus.client.max_payload} bytes at most; "
            "set `max_payload: 8MB` in its configuration"
        )


async def _ensure_stream(bus: Bus, spec: StreamSpec) -> str | None:
    """Return what had to be done about a stream: `CREATE`, `UPDATE` or nothing."""
    try:
        held = (await _api(bus, f"STREAM.INFO.{spec.name}"))["config"]
    except ApiRefused as error:
        if not error.not_found:
            raise ProvisionError(f"stream {spec.name}: {error.description}") from error
        return await _change(bus, _CREATE, spec)
    if _agrees(held, spec.config):
        return None
    return await _change(bus, "UPDATE", spec)


async def _change(bus: Bus, verb: str, spec: StreamSpec) -> str:
    try:
        await _api(bus, f"STREAM.{verb}.{spec.name}", spec.config)
    except ApiRefused as error:
        raise ProvisionError(f"stream {spec.name}: {error.description}{_cure(error, spec)}") from error
    log.info("stream_provisioned", stream=spec.name, verb=verb.lower())
    return verb


def _cure(error: ApiRefused, spec: StreamSpec) -> str:
    if "insufficient storage" not in error.description or spec.config["max_bytes"] <= 0:
        return ""
    wanted = spec.config["max_bytes"] >> 20
    return f": it reserves {wanted} MiB (PERPETUA_MAX_INBOX_BYTES); make room on the disk, or set less"


def _agrees(held: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether the broker's configuration is the wanted one; it omits what is at its default."""
    return all(held.get(key, _default_of(value)) == value for key, value in wanted.items())


def _default_of(value: object) -> object:
    """Return what the broker omits for a value of this type."""
    return False if isinstance(value, bool) else 0 if isinstance(value, int) else None


async def _api(bus: Bus, subject: str, body: object = None) -> dict[str, Any]:
    """Ask again while the broker is still starting its JetStream or electing a leader."""
    deadline = asyncio.get_running_loop().time() + _API_WAIT_S
    while True:
        try:
            return await bus.api(subject, body)
        except NoAnswer as error:
            if asyncio.get_running_loop().time() > deadline:
                raise ProvisionError(
                    "the broker does not answer JetStream requests; is `jetstream` in its configuration?"
                ) from error
            await asyncio.sleep(_RETRY_S)
