"""A browser follows the stream through a crash of the gateway, with nothing but its own EventSource."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from tests.support.eventually import eventually
from tests.support.swarm import Swarm

FOLLOW = """(after) => {
  window.seen = [];
  window.lags = [];
  window.opened = 0;
  const source = new EventSource(`/v1/cognition/stream${after === null ? "" : `?after=${after}`}`);
  const take = (message) => window.seen.push([Number(message.lastEventId), JSON.parse(message.data).id]);
  source.addEventListener("cognition", take);
  source.addEventListener("perpetua", take);
  source.addEventListener("lag", (message) => window.lags.push(message.data));
  source.addEventListener("open", () => (window.opened += 1));
}"""


async def following(browser: Browser, swarm: Swarm, after: int | None) -> Page:
    """Return a page of the gateway's that follows the stream."""
    page = await browser.new_page()
    await page.goto(f"{swarm.url}/livez")
    await page.evaluate(FOLLOW, after)
    await eventually(lambda: page.evaluate("window.opened"), 30, "an open stream")
    return page


async def until(page: Page, counter: str, least: int, what: str) -> None:
    await eventually(lambda: page.evaluate(f"{counter} >= {least}"), 30, what)


async def seen(page: Page) -> list[list[Any]]:
    found: list[list[Any]] = await page.evaluate("window.seen")
    return found


def stored(swarm: Swarm) -> list[list[Any]]:
    return [[event["sequence"], event["id"]] for event in swarm.events()]


@pytest.mark.fact("5.3")
async def test_a_browser_resumes_after_a_crash_of_the_gateway_without_loss_or_repeat(
    browser: Browser, running: Swarm
) -> None:
    """kill -9, twice, while a dozen personas think: the ids seen are the stream's, each once and in order."""
    for number in range(12):
        running.post("/v1/swarm/personas", {"name": f"P{number}", "role": "r", "charter": "c"})
    page = await following(browser, running, 0)
    for crash in (1, 2):
        await until(page, "window.seen.length", len(await seen(page)) + 30, "events before the crash")
        os.kill(running.pid("gateway"), signal.SIGKILL)
        killed = len(await seen(page))
        await until(page, "window.opened", crash + 1, "the stream, open again")
        await until(page, "window.seen.length", killed + 100, "events after the crash")
    ids = await seen(page)
    held = stored(running)
    assert ids == held[: len(ids)]
    assert [sequence for sequence, _ in ids] == list(range(1, len(ids) + 1))
    assert await page.evaluate("window.lags") == []


@pytest.mark.fact("5.3")
async def test_a_browser_that_names_no_place_begins_with_the_next_event(
    browser: Browser, running: Swarm
) -> None:
    last = running.get("/v1/cognition/events?limit=1")["last_sequence"]
    page = await following(browser, running, None)
    await until(page, "window.seen.length", 5, "live events")
    ids = await seen(page)
    assert ids[0][0] > last
    assert [sequence for sequence, _ in ids] == list(range(ids[0][0], ids[0][0] + len(ids)))
