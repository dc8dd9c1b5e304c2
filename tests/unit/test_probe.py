"""The probe of containers, against the real health server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from prometheus_client import CollectorRegistry

from libs.runtime import probe as probing
from libs.runtime.health import Health, HealthServer
from libs.runtime.probe import probe
from tests.support.ports import free_port, has_ipv6

HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no pause of the machine be taken for no answer."""
    monkeypatch.setattr(probing, "_WITHIN_S", 30.0)


def test_it_says_what_the_process_says() -> None:
    health = Health(beat=time.monotonic(), reason="starting")
    server = HealthServer(HOST, 0, CollectorRegistry(), health)
    env = {"PERPETUA_METRICS_PORT": str(server.port), "PERPETUA_METRICS_HOST": "0.0.0.0"}
    try:
        good, said = probe(env)
        assert not good
        assert "starting" in said
        assert probe(env, "livez")[0]
        health.ready = True
        health.reason = None
        assert probe(env)[0]
        health.beat -= 60
        assert not probe(env)[0]
        assert not probe(env, "livez")[0]
    finally:
        server.close()


def reached() -> list[tuple[str, str]]:
    """What may be listened on, with the one address of this machine at which the probe is to ask."""
    every = [("0.0.0.0", "127.0.0.1"), ("", "127.0.0.1"), ("127.0.0.2", "127.0.0.2")]
    return [*every, ("::", "::1"), ("[::1]", "::1")] if has_ipv6() else every


@pytest.mark.parametrize(("host", "at"), reached())
def test_it_asks_where_this_machine_reaches_the_process(host: str, at: str) -> None:
    with socket.create_server((at, 0), family=socket.AF_INET6 if ":" in at else socket.AF_INET) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell")

        answering = threading.Thread(target=answer, daemon=True)
        answering.start()
        env = {"PERPETUA_METRICS_PORT": str(server.getsockname()[1]), "PERPETUA_METRICS_HOST": host}
        assert probe(env) == (True, "well")
        answering.join()


def test_without_an_answer_it_says_why() -> None:
    port = free_port(HOST)
    good, said = probe({"PERPETUA_METRICS_PORT": str(port)})
    assert not good
    assert f"nothing answers on port {port}" in said
    good, said = probe({})
    assert not good
    assert "PERPETUA_METRICS_PORT" in said


def test_as_a_command_it_ends_with_the_answer() -> None:
    env = os.environ | {"PERPETUA_METRICS_PORT": str(free_port(HOST))}
    command = [sys.executable, "-m", "libs.runtime.probe"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "nothing answers" in done.stdout
