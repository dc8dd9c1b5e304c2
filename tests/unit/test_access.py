"""Tokens, sessions, rates and names: rules without I/O."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.settings.gateway import CONTROL, READ, ApiToken, GatewaySettings, digest, is_loopback, read_gateway
from libs.settings.process import process_reader
from libs.settings.reader import SettingError
from services.gateway.access import SESSION_S, Access, may
from services.gateway.hosts import is_from_elsewhere, is_ours
from services.gateway.rates import Rates, client_of

READER, MASTER = b"read-token-0123456789", b"control-token-0123456789"


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def access(clock: Clock | None = None) -> Access:
    tokens = (ApiToken(READ, digest(READER)), ApiToken(CONTROL, digest(MASTER)))
    return Access(tokens, clock or Clock())


def settings(**env: str) -> GatewaySettings:
    return read_gateway(process_reader({f"PERPETUA_{k}": v for k, v in env.items()}), listens=True)


def test_a_token_has_its_scope_and_a_stranger_s_has_none() -> None:
    assert access().of_header(b"Bearer " + READER) == READ
    assert access().of_header(b"bearer  " + MASTER + b" ") == CONTROL
    for wrong in (
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic " + MASTER,
        MASTER,
        b"Bearer " + MASTER[:-1],
        b"Bearer \xff",
    ):
        assert access().of_header(wrong) is None
    assert may(CONTROL, READ)
    assert may(CONTROL, CONTROL)
    assert may(READ, READ)
    assert not may(READ, CONTROL)
    assert not may(None, READ)


def test_a_token_named_twice_has_the_wider_scope() -> None:
    both = Access((ApiToken(CONTROL, digest(MASTER)), ApiToken(READ, digest(MASTER))), Clock())
    assert both.of_token(MASTER) == CONTROL


def test_a_session_lasts_twelve_hours_and_dies_with_its_token() -> None:
    clock = Clock()
    session = access(clock).session(MASTER)
    assert MASTER.decode() not in session
    assert access(clock).of_session(session) == CONTROL
    only_reader = Access((ApiToken(READ, digest(READER)),), clock)
    assert only_reader.of_session(session) is None, "another gateway, from which the token was taken"
    clock.now += SESSION_S
    assert access(clock).of_session(session) is None


@pytest.mark.parametrize(
    "forged",
    [
        "",
        ".",
        "..",
        "control",
        "control.9999999999",
        "control.9999999999.",
        "control.9999999999.AAAA",
        "x.9.é",
    ],
)
def test_a_forged_session_is_none(forged: str) -> None:
    assert access().of_session(forged) is None


def test_a_session_cannot_be_widened_or_prolonged() -> None:
    session = access().session(READER)
    assert access().of_session(session) == READ
    scope, end, signature = session.split(".")
    assert access().of_session(f"{CONTROL}.{end}.{signature}") is None
    assert access().of_session(f"{scope}.{int(end) + 1}.{signature}") is None


def test_a_client_s_burst_is_twice_its_rate_and_then_it_waits() -> None:
    clock = Clock()
    rates = Rates(10, clock)
    assert [rates.wait("a") for _ in range(20)] == [0.0] * 20
    assert rates.wait("a") == pytest.approx(0.1)
    assert rates.wait("b") == 0.0, "another client"
    clock.now += 0.11
    assert rates.wait("a") == 0.0
    assert rates.wait("a") > 0


def test_the_table_of_clients_is_bounded() -> None:
    rates = Rates(1, Clock())
    for number in range(20_000):
        rates.wait(str(number))
    assert len(rates._buckets) == 10_000
    assert Rates(0, Clock()).wait("a") == 0.0, "no limit"


def test_an_ipv6_network_counts_as_one_client() -> None:
    assert client_of("2001:db8::1") == client_of("2001:db8::ffff:1:2") == "2001:db8::"
    assert client_of("2001:db8:0:1::1") != client_of("2001:db8::1")
    assert client_of("::ffff:10.1.2.3") == client_of("10.1.2.3") == "10.1.2.3"
    assert client_of("testclient") == "testclient"


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:4096", "127.0.0.1", "[::1]:4096", "localhost:4096", "LOCALHOST", "a.localhost", "10.0.0.7:1",
     "gateway:4096", "swarm.example.org", "gateway.ns.svc", "gateway.ns.svc.cluster.local:1", "vm.internal"],
)  # fmt: skip
def test_addresses_local_names_and_named_ones_are_ours(host: str) -> None:
    assert is_ours(host, ("swarm.example.org",))


@pytest.mark.parametrize(
    "host",
    ["evil.example.org", "evil.example.org:4096", "127.0.0.1.evil.org", "localhost.evil.org", "", ":4096",
     "evil.org@127.0.0.1", "127.0.0.1:port", "127.0.0.1/evil.org", "swarm.example.org.evil.org", "[::1"],
)  # fmt: skip
def test_a_name_that_a_stranger_can_own_is_not(host: str) -> None:
    assert not is_ours(host, ("swarm.example.org",))


def test_what_a_browser_says_of_a_page_decides_over_what_it_cannot_say() -> None:
    assert is_from_elsewhere("cross-site", None, "a:1")
    assert is_from_elsewhere("same-site", "http://a:1", "a:1")
    assert not is_from_elsewhere("same-origin", "http://other", "a:1")
    assert not is_from_elsewhere(None, None, "a:1"), "no browser"
    assert not is_from_elsewhere(None, "http://A:1", "a:1")
    assert is_from_elsewhere(None, "http://a:2", "a:1")
    assert is_from_elsewhere(None, "null", "a:1")
    assert is_from_elsewhere(None, "http://[", "a:1")


def test_tokens_come_from_a_setting_and_a_file(tmp_path: Path) -> None:
    kept = tmp_path / "tokens"
    kept.write_text(f"# of the team\nread:{READER.decode()}\n")
    read = settings(API_TOKENS=f"control:{MASTER.decode()}", API_TOKENS_FILE=str(kept))
    assert read.tokens == (ApiToken(CONTROL, digest(MASTER)), ApiToken(READ, digest(READER)))
    assert MASTER.decode() not in repr(read)
    kept.write_text("# none\n")
    with pytest.raises(SettingError, match="a file with at least one token"):
        settings(API_TOKENS_FILE=str(kept))


@pytest.mark.parametrize(
    "wrong",
    [
        "secret",
        "control:x",
        "control:short",
        "admin:0123456789abcdef",
        "read:0123456789 abcdef",
        "read:é" * 9,
    ],
)
def test_a_wrong_token_is_not_shown(wrong: str) -> None:
    with pytest.raises(SettingError) as raised:
        settings(API_TOKENS=f"read:{READER.decode()},{wrong}")
    assert wrong not in str(raised.value)
    assert READER.decode() not in str(raised.value)


def test_a_gateway_listens_beyond_loopback_with_a_token_or_on_a_trusted_network_only() -> None:
    with pytest.raises(SettingError, match="PERPETUA_API_TOKENS"):
        settings(GATEWAY_HOST="0.0.0.0")
    assert settings(GATEWAY_HOST="0.0.0.0", API_TOKENS=f"control:{MASTER.decode()}").tokens
    assert settings(GATEWAY_HOST="0.0.0.0", TRUSTED_NETWORK="true").trusted_network
    assert is_loopback("127.8.9.1")
    assert not is_loopback("example.org")


def test_a_client_is_bounded_by_itself_only_beyond_loopback() -> None:
    inside, beyond = settings(), settings(GATEWAY_HOST="10.0.0.1", TRUSTED_NETWORK="1")
    assert (inside.requests_per_s, inside.client_connections) == (0, 0)
    assert (beyond.requests_per_s, beyond.client_connections) == (1000, 512)
    assert settings(CLIENT_REQUESTS_PER_S="5").requests_per_s == 5


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("x")
    with pytest.raises(SettingError, match="PERPETUA_GATEWAY_TLS_KEY"):
        settings(GATEWAY_TLS_CERT=str(file))
