"""What clients are tested against: a running swarm, and a real browser."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser, async_playwright

from tests.support.swarm import Swarm, swarm

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


@pytest.fixture(scope="module")
def running() -> Iterator[Swarm]:
    """A swarm that thinks five times a second and remembers what it thought."""
    with swarm("--quiet", settings={"LOOP_INTERVAL_MS": "200", "MAX_EVENTS": "20000"}) as up:
        yield up


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Chromium without a screen, with a fresh profile, that reaches no other host."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium: `apt-get install chromium`")
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield launched
        await launched.close()
