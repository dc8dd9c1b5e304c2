"""A page in a browser, watched: whatever it complains about or asks of other hosts is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

from playwright.async_api import Browser, Locator, Page

from tests.support.eventually import eventually


class Served(Protocol):
    """What serves a page."""

    url: str


class Watched:
    """A page and what was said about it."""

    def __init__(self, page: Page, swarm: Served) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self._own = urlsplit(swarm.url).netloc
        page.on("console", lambda said: self._console(said.type, said.text))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", lambda request: self._request(request.url))

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {text}")

    def _request(self, url: str) -> None:
        if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != self._own:
            self.strangers.append(url)

    def find(self, selector: str, has_text: str | None = None) -> Locator:
        return self.page.locator(selector, has_text=has_text)

    async def until(self, script: str, what: str, within: float = 30.0) -> None:
        """Wait for an expression to hold in the page."""
        await eventually(lambda: self.page.evaluate(script), within, what)

    async def says(self, selector: str, text: str, within: float = 30.0) -> None:
        """Wait until an element's text holds this one."""

        async def does() -> Any:
            return text in " ".join(await self.find(selector).all_inner_texts())

        await eventually(does, within, f"{text!r} in {selector}")


@asynccontextmanager
async def opened(
    browser: Browser,
    swarm: Served,
    path: str = "/",
    *,
    width: int = 1280,
    height: int = 800,
    scheme: str = "light",
) -> AsyncIterator[Watched]:
    """Open a page of the gateway's."""
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    watched = Watched(await context.new_page(), swarm)
    await watched.page.goto(f"{swarm.url}{path}")
    yield watched
    await context.close()
