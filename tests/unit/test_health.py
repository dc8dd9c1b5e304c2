"""Whether a process lives and does its work."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack
from socket import create_connection
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry

from libs.contracts.presence import BootSummary
from libs.runtime.health import STUCK_S, Health, HealthServer
from tests.support.eventually import eventually_sync
from tests.support.ports import has_ipv6


def test_a_process_is_ready_once_it_says_so() -> None:
    health = Health(beat=time.monotonic())
    status, body = health.answer("/readyz")
    assert (status, json.loads(body)["ok"], json.loads(body)["reason"]) == (503, False, "starting")
    health.ready = True
    health.detail = lambda: BootSummary(service="registry", hosted=1)
    status, body = health.answer("/readyz")
    assert (status, json.loads(body)["ok"], json.loads(body)["reason"]) == (200, True, None)
    assert json.loads(body)["boot"]["service"] == "registry"


def test_a_process_whose_loop_is_stuck_is_neither_live_nor_ready() -> None:
    health = Health(beat=time.monotonic() - STUCK_S - 1, ready=True)
    assert health.answer("/livez")[0] == 503
    assert health.answer("/readyz")[0] == 503
    health.beat = time.monotonic()
    assert health.answer("/livez")[0] == 200


def test_clients_that_say_nothing_take_few_threads_and_nobody_s_answer() -> None:
    server = HealthServer("127.0.0.1", 0, CollectorRegistry(), Health(beat=time.monotonic(), ready=True))
    before = threading.active_count()
    with ExitStack() as held:
        held.callback(server.close)
        clients = [held.enter_context(create_connection(("127.0.0.1", server.port), 20)) for _ in range(100)]
        for client in clients:
            client.sendall(b"G")
        for client in clients[: 100 - 16]:
            while client.recv(4096):
                pass
        with urlopen(f"http://127.0.0.1:{server.port}/livez", timeout=30) as answer:
            assert answer.status == 200
        eventually_sync(lambda: threading.active_count() - before <= 16, what="threads that have ended")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", "", "::", "::1", "[::1]"])
def test_an_address_of_either_family_is_listened_on(host: str) -> None:
    if ":" in host and not has_ipv6():
        host = "127.0.0.1"
    server = HealthServer(host, 0, CollectorRegistry(), Health(beat=time.monotonic(), ready=True))
    try:
        asked = ["[::1]"] if host.endswith(("::1", "::1]")) else ["127.0.0.1"]
        asked += ["[::1]"] if host == "::" else []
        for at in asked:
            with urlopen(f"http://{at}:{server.port}/livez", timeout=30) as answer:
                assert answer.status == 200
    finally:
        server.close()
    eventually_sync(lambda: not server.serves, what="it wakes for its end")


def test_health_and_metrics_are_served() -> None:
    server = HealthServer("127.0.0.1", 0, CollectorRegistry(), Health(beat=time.monotonic(), ready=True))
    try:
        for path in ("/livez", "/readyz", "/metrics"):
            with urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=30) as answer:
                assert answer.status == 200
        with pytest.raises(HTTPError) as raised:
            urlopen(f"http://127.0.0.1:{server.port}/other", timeout=30)
        with raised.value as refused:
            assert refused.status == 404
    finally:
        server.close()
