"""What the page is made of: files of the gateway's own, under a strict policy; and Swagger UI, offline."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser

from tests.clients.browsing import opened
from tests.support.swarm import Swarm


def test_the_page_is_sent_with_a_strict_policy(running: Swarm) -> None:
    answer = running.http("GET", "/")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["require-trusted-types-for"] == "'script'", "no text ever becomes HTML"
    assert policy["trusted-types"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"


def test_each_file_that_the_page_names_is_served_with_its_type(running: Swarm) -> None:
    named = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', running.http("GET", "/").body.decode()))
    waiting, seen = list(named), set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        answer = running.http("GET", path)
        assert answer.status == 200, path
        expected = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}[
            path.rpartition(".")[2]
        ]
        assert answer.headers["content-type"].startswith(expected)
        imported = re.findall(r'^(?:import|export) .*from "\./([^"]+)"', answer.body.decode(), re.M)
        waiting += [f"/static/js/{name}" for name in imported if f"/static/js/{name}" not in seen]
    assert len(seen) > 20


@pytest.mark.parametrize(
    "path",
    ["/static/../app.py", "/static/..%2Fapp.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/"],
)
def test_nothing_but_the_page_is_served_from_there(running: Swarm, path: str) -> None:
    answer = running.http("GET", path)
    assert answer.status in (404, 405)
    assert answer.headers["content-type"] == "application/problem+json"


async def test_swagger_ui_works_without_any_other_host(browser: Browser, running: Swarm) -> None:
    async with opened(browser, running, "/schema") as page:
        await page.says("#swagger-container", "/v1/cognition/start")
        await page.says("#swagger-container", "/v1/swarm/lineage")
        await page.find("#operations-cognition-status .opblock-summary-control").click()
        await page.find("#operations-cognition-status button.try-out__btn").click()
        await page.find("#operations-cognition-status button.execute").click()
        await page.says("#operations-cognition-status .live-responses-table", '"running": true')
        assert (page.complaints, page.strangers) == ([], [])
