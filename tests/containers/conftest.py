"""The images, built once for all tests of this folder."""

from __future__ import annotations

import pytest

from tests.support import containers


@pytest.fixture(scope="session")
def images() -> None:
    """The project's images under the names of docker-compose.yml, on stand-ins for the base images."""
    containers.make_bases()
    containers.build_images()
