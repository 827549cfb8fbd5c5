"""The page of the API in Chromium: it shows every operation, asks no other host for anything, and reports no error."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Request, async_playwright

from tests.conftest import require
from tests.service_fixture import Service

_QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-pings",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
"""Chromium itself calls nobody."""
_SCREENSHOTS = os.environ.get("SCRIP_TEST_SCREENSHOTS")
"""A folder for pictures of the pages; none are taken without it."""


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium."""
    path = require("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_QUIET)
        yield browser
        await browser.close()


async def test_the_page_shows_every_operation(service: Service, browser: Browser) -> None:
    """All operations are there under their tags, one opens with its example, and nothing comes from elsewhere."""
    page = await browser.new_page(viewport={"width": 1280, "height": 1600})
    asked: list[str] = []
    errors: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            errors.append(message.text)

    def sent(request: Request) -> None:
        asked.append(request.url)

    page.on("request", sent)
    page.on("console", heard)
    page.on("pageerror", lambda error: errors.append(str(error)))
    await page.goto(f"{service.run.url}/schema")
    document = service.anonymous.get("/schema/openapi.json").json()
    wanted = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    await page.wait_for_selector(".opblock")
    shown: set[str] = set()
    for block in await page.query_selector_all(".opblock-summary"):
        method = await block.query_selector(".opblock-summary-method")
        path = await block.query_selector(".opblock-summary-path")
        assert method
        assert path
        shown.add(f"{await method.inner_text()} {await path.get_attribute('data-path')}")
    assert shown == wanted
    assert await page.locator(".opblock-tag").count() == len(document["tags"])

    opened = page.locator(".opblock", has=page.locator('[data-path="/v1/coupons/redeem/{code}"]'))
    await opened.locator(".opblock-summary-control").click()
    await opened.get_by_text('"orderId": "A-1001"').first.wait_for()
    await opened.get_by_text("order_already_used").first.wait_for()
    if _SCREENSHOTS:
        await page.screenshot(path=Path(_SCREENSHOTS) / "schema.png", full_page=True)
    assert errors == []
    assert [url for url in asked if not url.startswith((service.run.url, "data:", "blob:"))] == []
    assert len(asked) >= 4
