"""The profile `tls`, run for real: HTTPS, the broker over TLS, with certificates that are made or given."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from socket import create_connection

import nats
import pytest
import trustme

from tests.support.compose import Compose, clone
from tests.support.containers import HOST
from tests.support.eventually import eventually_sync
from tests.support.http import fetch
from tests.support.ports import free_port

pytestmark = [
    pytest.mark.containers,
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("system"),
]

CERTIFICATES = "/var/lib/perpetua/certificates"
SERVICES = {"registry", "scheduler", "compressor", "thinker", "gateway"}


class Tls(Compose):
    """The compose file with the profile, and TLS demanded at the broker, whose port is published."""

    def __init__(self, folder: Path, number: int, **more: str) -> None:
        self.tls_port, self.nats_port = free_port(HOST), free_port(HOST)
        settings = {
            "PERPETUA_TLS_PORT": str(self.tls_port),
            "PERPETUA_NATS_PORT": str(self.nats_port),
            "PERPETUA_NATS_TLS_CA": f"{CERTIFICATES}/ca.crt",
            "CODETETHER_COGNITION_LOOP_INTERVAL_MS": "500",
            "CODETETHER_COGNITION_THINKER_BASE_URL": "",
        }
        files = ("docker-compose.yml", "deploy/compose.nats.yml")
        super().__init__(
            f"perpetua-tls-{os.getpid()}-{number}", folder, settings=settings | more, files=files
        )
        self.secure = f"https://{HOST}:{self.tls_port}"

    async def shows(self, authority: Path) -> None:
        """Everything is well for who trusts an authority, over TLS alone."""
        trusting = ssl.create_default_context(cafile=authority)
        eventually_sync(lambda: fetch(f"{self.secure}/readyz", context=trusting).status == 200, 60, "HTTPS")
        running = f"{self.secure}/v1/cognition/status"
        eventually_sync(lambda: fetch(running, context=trusting).json["running"], 60, "a loop that runs")
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            fetch(f"{self.secure}/livez", context=ssl.create_default_context())
        reader = await nats.connect(
            f"tls://{HOST}:{self.nats_port}", tls=trusting, nkeys_seed=str(self.volume("keys") / "reader.nk")
        )
        thoughts = await reader.subscribe("perpetua.events.*.*.thought_generated")
        event = json.loads((await thoughts.next_msg(timeout=60)).data)
        assert event["payload"]["thought_count"] >= 1
        await reader.close()

    def connections(self) -> list[tuple[str, str | None]]:
        """Each client of the broker, and the version of TLS that it speaks."""
        found = fetch(f"http://{self.address('nats')}:8222/connz").json["connections"]
        return [(one["name"].split("-")[1], one.get("tls_version")) for one in found]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return clone(tmp_path)


@pytest.fixture
def tls(folder: Path) -> Iterator[Tls]:
    running = Tls(folder, 1)
    try:
        yield running
    finally:
        running.close()


async def test_certificates_are_made_at_the_first_start(tls: Tls) -> None:
    """As docs/operations.md has it, word by word."""
    section = (tls.folder / "docs/operations.md").read_text().partition("### TLS\n")[2]
    up, fetch_authority, ask = section.partition("```sh\n")[2].partition("```")[0].strip().splitlines()
    tls.type(up)
    tls.type(fetch_authority)
    await tls.shows(tls.folder / "ca.crt")
    assert "hosted" in tls.type(ask.replace("4443", str(tls.tls_port)))
    eventually_sync(lambda: {service for service, _ in tls.connections()} == SERVICES, what="theirs alone")
    assert {version for _, version in tls.connections()} == {"1.3"}
    assert answer_without_tls(tls.nats_port) == b""


def answer_without_tls(port: int) -> bytes:
    """What the broker says to who speaks no TLS before it closes the connection."""
    with create_connection((HOST, port), timeout=60) as connection:
        connection.recv(65536)
        connection.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        with suppress(ConnectionResetError):
            return connection.recv(65536)
        return b""


@pytest.fixture
def given(folder: Path) -> Iterator[Tls]:
    certificates = folder / "certs"
    certificates.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(certificates / "ca.crt"))
    issued = authority.issue_cert(HOST, "nats")
    issued.private_key_pem.write_to_path(str(certificates / "tls.key"))
    for pem in issued.cert_chain_pems:
        pem.write_to_path(str(certificates / "tls.crt"), append=True)
    running = Tls(folder, 2, PERPETUA_CERTIFICATES="./certs", COMPOSE_PROFILES="tls")
    try:
        yield running
    finally:
        running.close()


async def test_given_certificates_are_shown(given: Tls) -> None:
    before = sorted((given.folder / "certs").iterdir())
    given("up", "-d")
    await given.shows(given.folder / "certs/ca.crt")
    assert sorted((given.folder / "certs").iterdir()) == before
