"""Debian's Chromium, and pictures of the pages for whoever asks for them."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from tests.conftest import require

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
PATIENCE_MS = 30_000
"""Many times what anything takes, since the machine may have other things to do."""


class Watched:
    """A page, with what it asked for and what it complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._heard)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)

    def elsewhere(self, url: str) -> list[str]:
        """What it asked of any other host than this."""
        return [asked for asked in self.asked if not asked.startswith((f"{url}/", "data:", "blob:"))]

    async def picture(self, name: str) -> None:
        """A picture of the whole page, where they are wanted."""
        if _SCREENSHOTS:
            await self.page.screenshot(path=Path(_SCREENSHOTS) / f"{name}.png", full_page=True)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium, started once: that takes longer than most tests."""
    path = require("chromium")
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_QUIET)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def browser(chromium: Browser) -> AsyncIterator[Browser]:
    """A browser without any page, cookie or storage; what a test opens is closed after it."""
    yield chromium
    for context in list(chromium.contexts):
        await context.close()
