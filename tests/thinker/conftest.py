"""Fixtures of the thinker's tests."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.thinker.models import build_once

collect_ignore = [] if find_spec("torch") else ["test_hugging_face.py"]
"""What compares with Hugging Face's own models needs torch, which nothing here installs."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny float32 model, made once for all tests."""
    return build_once(tmp_path_factory.getbasetemp() / "tiny-float32")
