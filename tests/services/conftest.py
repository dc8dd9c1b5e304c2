"""Fixtures of tests of services."""

from __future__ import annotations

import pytest


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have journals be waited for, however long a busy machine stalls."""
    monkeypatch.setattr("services.scheduler.soon.ANSWERED_WITHIN_S", 30.0)
    monkeypatch.setattr("services.scheduler.treasury._WITHIN_S", 30.0)


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have reaps be answered once they are announced, however long a busy machine stalls."""
    monkeypatch.setattr("services.registry.reaping._ANNOUNCED_WITHIN_S", 30.0)
