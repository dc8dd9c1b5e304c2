"""`perpetua keys`: made once, kept, listed, never overwritten."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from libs.contracts.permissions import ADMIN, SERVICES, permissions
from libs.supervisor.broker import find_server, is_free
from tests.support.broker import HOST
from tests.support.eventually import eventually_sync
from tests.support.ports import free_port


def keys(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "libs.cli", "keys", "--out", str(folder), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def listed(folder: Path, *more: str) -> dict[str, str]:
    done = keys(folder, "--json", *more)
    assert done.returncode == 0, done.stderr
    return {entry["file"]: entry["status"] for entry in json.loads(done.stdout)["files"]}


def test_each_user_gets_a_seed_that_only_its_owner_reads(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    created = listed(folder)
    assert created.keys() == {f"{user}.nk" for user in permissions()} | {"users.conf", "nats.conf"}
    assert set(created.values()) == {"created"}
    assert folder.stat().st_mode & 0o777 == 0o700
    seeds = {path.read_text() for path in folder.glob("*.nk")}
    assert len(seeds) == len(permissions())
    assert all(seed.startswith("SU") for seed in seeds)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.glob("*.nk"))
    assert not [seed for seed in seeds if seed.strip() in (folder / "users.conf").read_text()]


def test_again_it_keeps_what_is_there_and_makes_what_is_missing(tmp_path: Path) -> None:
    listed(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(listed(tmp_path).values()) == {"kept"}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "thinker.nk").unlink()
    (tmp_path / "nats.conf").write_text("# mine\n")
    again = listed(tmp_path)
    assert (again["thinker.nk"], again["users.conf"], again["nats.conf"]) == ("created", "updated", "kept")
    assert (tmp_path / "users.conf.old").read_bytes() == before["users.conf"]
    assert (tmp_path / "nats.conf").read_text() == "# mine\n"
    assert (tmp_path / "gateway.nk").read_bytes() == before["gateway.nk"]


def test_each_process_is_handed_its_own_and_nothing_else(tmp_path: Path) -> None:
    folder, each, certificates = tmp_path / "keys", tmp_path / "each", tmp_path / "certificates"
    hand_out = ("--each", str(each), "--certificates", str(certificates))
    created = {name: status for name, status in listed(folder, *hand_out).items() if "/" in name}
    assert set(created.values()) == {"created"}
    assert {path.name: sorted(file.name for file in path.iterdir()) for path in each.iterdir()} == {
        **{user: [f"{user}.nk"] for user in (ADMIN, *SERVICES)},
        "broker": ["users.conf"],
        "authority": ["ca.crt"],
        "tls": ["ca.crt", "tls.crt", "tls.key"],
    }
    for secret in (*each.glob("*/*.nk"), *each.glob("*/*.key")):
        assert secret.stat().st_mode & 0o777 == 0o600
        assert (
            secret.read_bytes()
            == (certificates if secret.suffix == ".key" else folder).joinpath(secret.name).read_bytes()
        )
    (folder / "thinker.nk").unlink()
    again = listed(folder, *hand_out)
    assert {name for name in created if again[name] == "updated"} == {
        "thinker/thinker.nk",
        "broker/users.conf",
    }
    assert (each / "thinker/thinker.nk").read_bytes() == (folder / "thinker.nk").read_bytes()
    assert [file.name for file in (each / "thinker").iterdir()] == ["thinker.nk"], (
        "not the former key, either"
    )


def test_given_certificates_are_handed_out_without_what_was_made_before(tmp_path: Path) -> None:
    each, given = tmp_path / "each", tmp_path / "given"
    listed(tmp_path / "keys", "--each", str(each), "--certificates", str(tmp_path / "made"))
    given.mkdir()
    for name in ("tls.crt", "tls.key"):
        (given / name).write_text(f"given {name}")
    listed(tmp_path / "keys", "--each", str(each), "--certificates", str(given))
    assert (each / "tls/tls.key").read_text() == "given tls.key"
    assert not list(each.glob("*/ca.crt"))


def test_people_see_a_table_and_no_seed(tmp_path: Path) -> None:
    shown = keys(tmp_path).stdout
    assert "gateway.nk" in shown
    assert "PERPETUA_NATS_NKEY_FILE" in shown
    seeds = [file.read_text().strip() for file in tmp_path.glob("*.nk")]
    assert seeds
    assert [seed for seed in seeds if seed in shown] == []


def test_a_file_that_is_no_seed_gets_a_clear_word(tmp_path: Path) -> None:
    (tmp_path / "gateway.nk").write_text("nonsense")
    done = keys(tmp_path)
    assert done.returncode == 1
    assert "gateway.nk holds no seed" in done.stderr
    assert (tmp_path / "gateway.nk").read_text() == "nonsense"


@pytest.mark.parametrize("public", [True, False])
def test_a_broker_starts_with_what_it_wrote(tmp_path: Path, public: bool) -> None:
    """The whole `nats.conf`, but for its port: it listens on loopback and stores where its user may."""
    listed(tmp_path, *(["--public-events"] if public else []))
    port, config = free_port(HOST), tmp_path / "nats.conf"
    config.write_text(config.read_text().replace("port: 4222", f"port: {port}"))
    command = [find_server(), "-c", str(config)]
    broker = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        eventually_sync(lambda: not is_free(HOST, port), what="the broker's port")
        asyncio.run(come_in(f"nats://{HOST}:{port}", tmp_path, public))
        assert (tmp_path / "streams").is_dir()
    finally:
        broker.terminate()
        broker.wait(30)


async def come_in(url: str, folder: Path, public: bool) -> None:
    reader = await nats.connect(url, nkeys_seed=str(folder / "reader.nk"))
    await reader.close()
    if public:
        anybody = await nats.connect(url)
        await anybody.close()
        return
    stranger, refused = Client(), asyncio.Event()

    async def note(error: Exception) -> None:
        if "Authorization Violation" in str(error):
            refused.set()

    coming = asyncio.create_task(stranger.connect(url, error_cb=note))
    await asyncio.wait_for(refused.wait(), 30)
    coming.cancel()
    await asyncio.gather(coming, return_exceptions=True)
    await stranger.close()
