"""Settings of a process as such."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.settings.process import PREFIX, ProcessSettings, process_reader, read_process
from libs.settings.reader import SettingError


def read(service: str = "registry", **env: str) -> ProcessSettings:
    return read_process(process_reader({PREFIX + name: value for name, value in env.items()}), service)


def test_the_defaults_are_for_one_machine() -> None:
    settings = read()
    assert settings.nats.url == "nats://127.0.0.1:4222"
    assert (settings.gateway.host, settings.gateway.port) == ("127.0.0.1", 4096)
    assert (settings.metrics_host, settings.metrics_port) == ("127.0.0.1", 0)
    assert (settings.replicas, settings.max_proposals) == (1, 10_000)
    assert (settings.capture, settings.max_captures, settings.novelty_threshold) == ("sample", 2000, 0.3)
    assert (settings.log_format, settings.log_level) == ("auto", "info")
    assert (settings.drain_ms, settings.restarts, settings.gateway.trusted_network) == (8000, 0, False)


def test_an_instance_has_a_name_of_its_own_unless_it_is_given_one() -> None:
    assert read().instance.startswith("registry-")
    assert read().instance != read().instance
    assert read(INSTANCE="one").instance == "one"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.org"])
def test_an_open_gateway_must_be_on_a_trusted_network(host: str) -> None:
    with pytest.raises(SettingError) as raised:
        read("gateway", GATEWAY_HOST=host)
    assert str(raised.value).startswith(f"PERPETUA_GATEWAY_HOST={host!r} is not allowed: expected ")
    assert "PERPETUA_TRUSTED_NETWORK=true" in str(raised.value)
    assert read("gateway", GATEWAY_HOST=host, TRUSTED_NETWORK="yes").gateway.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_gateway_on_loopback_needs_nothing(host: str) -> None:
    assert read("gateway", GATEWAY_HOST=host).gateway.host == host


def test_the_data_folder_is_the_user_s_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert read().data_dir == "/home/somebody/.local/share/perpetua"
    assert read(DATA_DIR="~/swarm").data_dir == "/home/somebody/swarm"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert Path(read().data_dir) == Path("/data/perpetua")


@pytest.mark.fact("1.2")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("METRICS_PORT", "65536"),
        ("GATEWAY_PORT", "http"),
        ("DRAIN_MS", "600001"),
        ("REPLICAS", "0"),
        ("REPLICAS", "6"),
        ("MAX_PROPOSALS", "0"),
        ("CAPTURE", "some"),
        ("NOVELTY_THRESHOLD", "1.1"),
        ("NOVELTY_THRESHOLD", "-0.1"),
        ("NOVELTY_THRESHOLD", "nan"),
        ("MAX_CAPTURES", "0"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("TRUSTED_NETWORK", "perhaps"),
    ],
)
def test_an_invalid_value_is_told_in_one_line(name: str, value: str) -> None:
    with pytest.raises(SettingError) as raised:
        read(**{name: value})
    assert str(raised.value).startswith(f"PERPETUA_{name}={value!r} is not allowed: expected ")
