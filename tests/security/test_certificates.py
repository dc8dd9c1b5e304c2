"""`perpetua keys --certificates`: certificates that clients take, renewed in time, given ones left alone."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from libs.supervisor.certificates import AUTHORITY_FOR, CERTIFICATE_FOR, RENEW_BEFORE, make_certificates
from libs.supervisor.errors import UpError

NAMES = ("nats", "10.0.0.3")
SOON = timedelta(days=1)


def made(folder: Path, names: tuple[str, ...] = NAMES, *, after: timedelta = timedelta()) -> dict[str, str]:
    return {entry.file: entry.status for entry in make_certificates(folder, names, datetime.now(UTC) + after)}


async def greeted(folder: Path, name: str, authority: Path) -> bool:
    """Whether a client that trusts an authority takes what the folder's owner shows under a name."""
    showing = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    showing.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=showing)
    async with server:
        port = server.sockets[0].getsockname()[1]
        trusting = ssl.create_default_context(cafile=authority)
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=name)
        except ssl.SSLCertVerificationError:
            return False
        writer.close()
        return True


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "nats", "10.0.0.3"])
async def test_a_client_that_trusts_the_authority_takes_the_certificate(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "certificates"
    assert set(made(folder).values()) == {"created"}
    assert await greeted(folder, name, folder / "ca.crt")


async def test_strangers_and_other_names_are_refused(tmp_path: Path) -> None:
    ours, others = tmp_path / "ours", tmp_path / "others"
    made(ours)
    made(others)
    assert not await greeted(ours, "localhost", others / "ca.crt")
    assert not await greeted(ours, "example.org", ours / "ca.crt")


def test_keys_are_their_owner_s_alone(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    made(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*.key")} == {0o600}


def test_again_it_keeps_what_is_good_and_renews_what_runs_out(tmp_path: Path) -> None:
    made(tmp_path)
    assert set(made(tmp_path, after=CERTIFICATE_FOR - RENEW_BEFORE - SOON).values()) == {"kept"}
    renewed = made(tmp_path, after=CERTIFICATE_FOR - RENEW_BEFORE + SOON)
    assert renewed == {"ca.crt": "kept", "ca.key": "kept", "tls.crt": "updated", "tls.key": "updated"}
    anew = made(tmp_path, after=AUTHORITY_FOR - RENEW_BEFORE + SOON)
    assert set(anew.values()) == {"updated"}


async def test_other_names_make_another_certificate(tmp_path: Path) -> None:
    made(tmp_path)
    assert made(tmp_path, ("nats", "example.org"))["tls.crt"] == "updated"
    assert await greeted(tmp_path, "example.org", tmp_path / "ca.crt")


def test_given_certificates_are_left_alone(tmp_path: Path) -> None:
    """Without the authority's key they are somebody else's, whatever they say."""
    given = {"tls.crt": b"theirs", "tls.key": b"theirs too"}
    for name, content in given.items():
        (tmp_path / name).write_bytes(content)
    assert made(tmp_path) == {"tls.crt": "kept", "tls.key": "kept"}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == given


def test_what_was_made_elsewhere_beside_our_authority_gets_a_clear_word(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "tls.key").write_text("nonsense")
    with pytest.raises(UpError, match="are not those that were made here"):
        made(tmp_path)
    with pytest.raises(UpError, match="is no host name"):
        made(tmp_path / "new", ("bücher",))


def test_the_command_makes_them_beside_the_keys(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "libs.cli", "keys", "--json", "--out", str(tmp_path / "keys")]
    command += ["--certificates", str(tmp_path / "certificates"), "--names", "nats,10.0.0.3,"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    files = {entry["file"] for entry in json.loads(done.stdout)["files"]}
    assert {"gateway.nk", "users.conf", "ca.crt", "tls.crt", "tls.key"} <= files
