"""Ports that are given out are given once."""

from __future__ import annotations

import pytest

from libs.supervisor import broker
from tests.support import ports

HOST = "127.0.0.1"


def drawn(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Let these be drawn, one after another, and all be free."""
    draws = iter(numbers)
    monkeypatch.setattr(broker, "_given", set())
    monkeypatch.setattr("random.randrange", lambda *_: next(draws))
    monkeypatch.setattr(broker, "is_free", lambda *_: True)


def test_a_port_at_which_nobody_listens_yet_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn(monkeypatch, 20_000, 20_000, 20_001)
    assert [broker.free_port(HOST), broker.free_port(HOST)] == [20_000, 20_001]


def test_two_workers_are_given_ports_that_are_not_the_other_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_WORKERS", 2)
    given = []
    for worker in (0, 1):
        drawn(monkeypatch, *range(20_000, 20_009))
        monkeypatch.setattr(ports, "_WORKER", worker)
        given.append({ports.free_port(HOST) for _ in range(4)})
    assert not given[0] & given[1]
