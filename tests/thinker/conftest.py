"""Fixtures of the thinker's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.thinker.models import build_once


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny float32 model, made once for all tests."""
    return build_once(tmp_path_factory.getbasetemp() / "tiny-float32")
