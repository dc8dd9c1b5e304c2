"""The probe of containers, against the real health server."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from prometheus_client import CollectorRegistry

from libs.runtime.health import Health, HealthServer
from libs.runtime.probe import probe
from libs.supervisor.broker import free_port

HOST = "127.0.0.1"


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
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "nothing answers" in done.stdout
