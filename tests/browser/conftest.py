"""Debian's Chromium, and somebody who is signed in to the console with it."""

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from tests.browser.operator import Operator
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
PATIENCE_MS = 30_000
"""Many times what anything takes, since the machine may have other things to do."""


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


@pytest_asyncio.fixture(loop_scope="session")
async def operator(browser: Browser, service: Service) -> AsyncIterator[Operator]:
    """Somebody signed in with all scopes, without trouble in the end."""
    page = await browser.new_page(viewport={"width": 1280, "height": 900})
    operator = await Operator(page, service).signs_in()
    yield operator
    operator.had_no_trouble()
