"""A gateway that asks for tokens and speaks TLS, over a broker with users and TLS: everything still works."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
import trustme

from libs.contracts.limits import BODY_BYTES
from libs.supervisor.keys import authorization, make_seeds
from tests.security.serving import MASTER, READER, TOKENS
from tests.support.broker import Broker
from tests.support.eventually import eventually_sync
from tests.support.http import fetch
from tests.support.sse import Stream
from tests.support.swarm import Swarm, swarm

SERVICES = ["registry", "scheduler", "thinker", "compressor", "gateway"]


@pytest.fixture(scope="module")
def closed() -> Iterator[Swarm]:
    """A swarm whose gateway asks for tokens."""
    with swarm(
        settings={"LOOP_INTERVAL_MS": "100"}, own={"API_TOKENS": TOKENS, "MAX_SSE_CLIENTS": "3"}
    ) as running:
        yield running


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def cli(running: Swarm, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PERPETUA_")}
    return subprocess.run(
        [sys.executable, "-m", "libs.cli", *arguments, "--data-dir", str(running.data)],
        capture_output=True, text=True, timeout=60, env=clean | env, check=False,
    )  # fmt: skip


def test_tokens_open_what_their_scope_says(closed: Swarm) -> None:
    new = {"name": "n", "role": "r", "charter": "c"}
    assert closed.http("GET", "/v1/swarm/lineage").status == 401
    assert closed.http("GET", "/v1/swarm/lineage", headers=bearer(READER)).status == 200
    assert closed.http("POST", "/v1/swarm/personas", new).status == 401
    assert closed.http("POST", "/v1/swarm/personas", new, headers=bearer(READER)).status == 403
    assert closed.http("POST", "/v1/swarm/personas", new, headers=bearer(MASTER)).status == 200
    assert closed.http("GET", "/metrics").status == 401
    assert closed.http("GET", "/readyz").status == 200
    assert closed.http("GET", "/").status == 200


def test_the_command_line_shows_a_token_by_setting_or_file(closed: Swarm, tmp_path: Path) -> None:
    without = cli(closed, "status")
    assert without.returncode == 1
    assert "PERPETUA_API_TOKEN" in without.stderr
    assert len(without.stderr.strip().splitlines()) == 1
    assert cli(closed, "status", PERPETUA_API_TOKEN=READER).returncode == 0
    refused = cli(closed, "stop", PERPETUA_API_TOKEN=READER)
    assert (refused.returncode, "control" in refused.stderr) == (1, True)
    kept = tmp_path / "token"
    kept.write_text(MASTER + "\n")
    assert cli(closed, "start", "--interval", "100", "--token-file", str(kept)).returncode == 0
    assert cli(closed, "ps", "--json").returncode == 0, "processes are asked over the broker, with its key"


def test_the_event_stream_is_followed_with_a_token_or_a_session(closed: Swarm) -> None:
    with Stream(f"{closed.url}/v1/cognition/stream") as refused:
        assert refused.head().startswith("HTTP/1.1 401")
    signed = closed.http("POST", "/v1/session", {"token": READER})
    assert signed.json == {"required": True, "scope": "read"}
    cookie = signed.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert READER not in cookie
    session = {"Cookie": cookie.partition(";")[0]}
    for headers in (bearer(READER), session):
        with Stream(f"{closed.url}/v1/cognition/stream?after=0", headers) as stream:
            assert "text/event-stream" in stream.head()
            assert next(frame for frame in stream.frames() if frame.name == "cognition").identifier
    assert closed.http("POST", "/v1/cognition/stop", {}, headers=session).status == 403
    assert closed.http("GET", "/v1/session", headers=session).json["scope"] == "read"
    assert closed.http("POST", "/v1/session", {"token": "wrong-token-0123456789"}).status == 401


def test_one_follower_too_many_is_told_so_and_the_others_go_on(closed: Swarm) -> None:
    url = f"{closed.url}/v1/cognition/stream?after=0"
    eventually_sync(lambda: nobody_follows(closed), what="those of earlier tests to be out")
    with ExitStack() as held:
        for _ in range(3):
            stream = held.enter_context(Stream(url, bearer(READER)))
            assert stream.head().startswith("HTTP/1.1 200")
            next(stream.frames())
        with Stream(url, bearer(READER)) as fourth:
            assert fourth.head().startswith("HTTP/1.1 503")
        assert next(stream.frames())
    eventually_sync(lambda: follows(closed), what="room again")


def test_of_followers_who_come_together_no_more_are_let_in_than_may(closed: Swarm) -> None:
    url = f"{closed.url}/v1/cognition/stream"
    eventually_sync(lambda: nobody_follows(closed), what="those of earlier tests to be out")
    with ExitStack() as held:
        gateway = closed.pid("gateway")
        os.kill(gateway, signal.SIGSTOP)
        try:
            streams = [held.enter_context(Stream(url, bearer(READER))) for _ in range(40)]
        finally:
            os.kill(gateway, signal.SIGCONT)
        answers = Counter(stream.head().split()[1] for stream in streams)
    assert answers == {"200": 3, "503": 37}
    eventually_sync(lambda: follows(closed), what="room again")


def nobody_follows(closed: Swarm) -> bool:
    metrics = closed.http("GET", "/metrics", headers=bearer(READER)).text
    return "perpetua_sse_clients 0.0" in metrics.splitlines()


def follows(closed: Swarm) -> bool:
    with Stream(f"{closed.url}/v1/cognition/stream", bearer(READER)) as stream:
        return stream.head().startswith("HTTP/1.1 200")


def test_no_other_process_is_told_the_tokens(closed: Swarm) -> None:
    for service in SERVICES:
        environment = Path(f"/proc/{closed.pid(service)}/environ").read_bytes()
        assert (MASTER.encode() in environment) == (service == "gateway")


def test_every_process_stays_within_its_permissions(closed: Swarm) -> None:
    """After all that a swarm does, none has been denied anything: the users have what they need."""
    control = bearer(MASTER)
    for method, path, body in (
        ("POST", "/v1/swarm/personas", {"persona_id": "a", "name": "a", "role": "r", "charter": "c"}),
        ("POST", "/v1/swarm/personas/a/spawn", {"name": "b", "role": "r", "charter": "c"}),
        ("GET", "/v1/swarm/personas", None),
        ("POST", "/v1/swarm/personas/a/reap", {"cascade": True}),
        ("POST", "/v1/cognition/stop", {"reason": "enough"}),
        ("POST", "/v1/cognition/start", {}),
        ("GET", "/v1/cognition/events", None),
    ):
        assert closed.http(method, path, body, headers=control).status == 200, path
    eventually_sync(
        lambda: closed.http("GET", "/v1/cognition/snapshots/latest", headers=control).status == 200,
        what="a snapshot",
    )
    for row in closed.ps():
        if row["metrics_port"] is not None:
            metrics = fetch(f"http://127.0.0.1:{row['metrics_port']}/metrics").text
            assert 'perpetua_bus_faults_total{kind="denied"} 0.0' in metrics
    log = (closed.data / "logs" / "nats.log").read_text()
    assert "iolation" not in log
    assert "authentication error" not in log


def persona_of(length: int, name: str) -> bytes:
    """A body of so many bytes that creates a persona, if it may be so large."""
    who = json.dumps({"persona_id": name, "name": name, "role": "r", "charter": "c"}).encode()
    return who + b" " * (length - len(who))


def in_chunks(body: bytes) -> bytes:
    """A body as it is sent by who does not say how long it is."""
    parts = [body[at : at + 65_536] for at in range(0, len(body), 65_536)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def exchange(running: Swarm, *sent: bytes) -> list[HTTPResponse]:
    """Send requests over one connection, each after the answer to the one before; return the answers."""
    answers = []
    with socket.create_connection(("127.0.0.1", running.gateway_port), 20) as connection:
        for request in sent:
            connection.sendall(request)
            answer = HTTPResponse(connection)
            answer.begin()
            answers.append(answer)
            answer.body = answer.read()  # type: ignore[attr-defined]
    return answers


def creating(*headers: str) -> bytes:
    lines = ("POST /v1/swarm/personas HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {MASTER}")
    return "\r\n".join((*lines, "Content-Type: application/json", *headers, "", "")).encode()


def sent_whole(body: bytes) -> bytes:
    return creating(f"Content-Length: {len(body)}") + body


def sent_in_chunks(body: bytes) -> bytes:
    return creating("Transfer-Encoding: chunked") + in_chunks(body)


@pytest.mark.parametrize("send", [sent_whole, sent_in_chunks])
def test_a_body_of_more_than_a_mebibyte_is_refused_and_the_connection_goes_on(
    closed: Swarm, send: Callable[[bytes], bytes]
) -> None:
    how = send.__name__
    large, fits = send(persona_of(BODY_BYTES + 1, how)), send(persona_of(BODY_BYTES, how))
    refused, created = exchange(closed, large, fits)
    assert (refused.status, refused.headers["content-type"]) == (413, "application/problem+json")
    problem = json.loads(refused.body)  # type: ignore[attr-defined]
    assert problem["status"] == 413
    assert problem["detail"] == f"the body is larger than {BODY_BYTES} bytes"
    assert created.status == 200, "what fits is taken, by the same connection, and the other was not"


def test_a_body_that_is_said_to_be_too_large_is_refused_before_it_comes(closed: Swarm) -> None:
    began = time.monotonic()
    (refused,) = exchange(closed, creating(f"Content-Length: {1 << 40}"))
    assert refused.status == 413
    assert time.monotonic() - began < 15


def test_seeds_and_streams_are_their_owner_s_alone(closed: Swarm) -> None:
    for path in (closed.data / "keys").glob("*.nk"):
        assert path.stat().st_mode & 0o077 == 0
    assert (closed.data / "keys").stat().st_mode & 0o077 == 0


@pytest.fixture(scope="module")
def authority() -> Iterator[tuple[trustme.CA, Path]]:
    """A certificate authority of this test's own, and a folder with what it signs."""
    folder = Path(tempfile.mkdtemp(prefix="perpetua-tls-"))
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name in ("server", "client"):
        certificate = ca.issue_cert("127.0.0.1", "localhost")
        certificate.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(str(folder / f"{name}.pem"), append=True)
    try:
        yield ca, folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def guarded_broker(folder: Path) -> Broker:
    """A broker that knows the users of the folder's keys, speaks TLS only and asks for a certificate."""
    files = {name: json.dumps(str(folder / name)) for name in ("ca.pem", "server.pem", "server.key")}
    tls = (
        f"tls {{ cert_file: {files['server.pem']}, key_file: {files['server.key']}, "
        f"ca_file: {files['ca.pem']}, verify: true }}\n"
    )
    return Broker(authorization(make_seeds(folder / "keys"), public_events=False) + tls)


def test_a_swarm_over_tls_with_keys_of_its_own(authority: tuple[trustme.CA, Path]) -> None:
    """Broker and gateway with certificates of a test's own authority; strangers to it are refused."""
    _, folder = authority
    broker = guarded_broker(folder)
    own = {
        "NATS_NKEY_FILE": str(folder / "keys"),
        "NATS_TLS_CA": str(folder / "ca.pem"),
        "NATS_TLS_CERT": str(folder / "client.pem"),
        "NATS_TLS_KEY": str(folder / "client.key"),
        "GATEWAY_TLS_CERT": str(folder / "server.pem"),
        "GATEWAY_TLS_KEY": str(folder / "server.key"),
        "API_TOKENS": TOKENS,
    }
    try:
        with swarm("--nats-url", broker.url, settings={"LOOP_INTERVAL_MS": "100"}, own=own) as running:
            base = running.url.replace("http:", "https:")
            assert any(base in line for line in running.output)
            trusting = ssl.create_default_context(cafile=str(folder / "ca.pem"))

            def count() -> int:
                return int(read(f"{base}/v1/swarm/personas/root-thinker", trusting)["thought_count"])

            eventually_sync(lambda: count() > 3, what="some thoughts")
            with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
                read(f"{base}/livez", ssl.create_default_context())
            done = running.cli("ps", "--json")
            assert {row["service"] for row in json.loads(done.stdout)} == set(SERVICES)
            shown = cli(running, "status", PERPETUA_API_TOKEN=READER, SSL_CERT_FILE=str(folder / "ca.pem"))
            assert shown.returncode == 0, shown.stderr
            signed = fetch(f"{base}/v1/session", "POST", {"token": MASTER}, context=trusting)
            cookie = signed.headers["set-cookie"]
            assert cookie.startswith("__Host-perpetua_session=control.")
            assert "Secure" in cookie
        assert "iolation" not in broker.log.read_text()
    finally:
        broker.close()


def read(url: str, context: ssl.SSLContext) -> Any:
    answer = fetch(url, headers=bearer(READER), context=context)
    assert answer.status == 200, answer.text
    return answer.json


def test_a_broker_without_tls_is_refused_where_tls_is_demanded(authority: tuple[trustme.CA, Path]) -> None:
    """It could be anybody who stands in between."""
    _, folder = authority
    broker = Broker()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "libs.cli", "provision", "--nats-url", broker.url],
            capture_output=True, text=True, timeout=60, check=False,
            env=os.environ | {"PERPETUA_NATS_TLS_CA": str(folder / "ca.pem")},
        )  # fmt: skip
        assert done.returncode == 1
        assert "offers no TLS" in done.stderr
    finally:
        broker.close()
