"""Where the gateway of `perpetua up` listens, and what is said of it."""

from __future__ import annotations

import subprocess
import sys
from os import environ
from pathlib import Path

import pytest

from tests.support.ports import has_ipv6
from tests.support.swarm import swarm


def hosts() -> list[tuple[str, str]]:
    """Addresses of this machine, each as a URL has it."""
    every = [("127.0.0.2", "127.0.0.2"), ("0.0.0.0", "127.0.0.1")]
    return [*every, ("::1", "[::1]")] if has_ipv6() else every


@pytest.mark.parametrize(("host", "shown"), hosts())
def test_up_says_the_address_at_which_its_gateway_is_reached(host: str, shown: str) -> None:
    with swarm("--quiet", own={"GATEWAY_HOST": host, "TRUSTED_NETWORK": "true"}) as running:
        url = f"http://{shown}:{running.gateway_port}"
        assert running.until_output(url).startswith("gateway")
        done = running.cli("status", "--json")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("port", ["0", "4096"])
def test_an_address_of_another_machine_gets_a_clear_word(port: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "libs.cli", "up", "--data-dir", str(tmp_path), "--gateway-port", port],
        env=environ | {"PERPETUA_GATEWAY_HOST": "192.0.2.7", "PERPETUA_TRUSTED_NETWORK": "true"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the gateway cannot listen on 192.0.2.7: " in done.stderr
    assert "PERPETUA_GATEWAY_HOST" in done.stderr
