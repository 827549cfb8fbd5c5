"""Debian's Chromium, and an operator who is signed in to the console."""

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from tests.browser.operator import Operator
from tests.conftest import require
from tests.service_fixture import Service

_QUIET = [
    *"--no-sandbox --disable-gpu --disable-background-networking --disable-component-update".split(),
    *"--disable-default-apps --disable-domain-reliability --disable-sync".split(),
    *"--no-default-browser-check --no-first-run --no-pings".split(),
    "--in-process-gpu",
    "--disable-features=SpareRendererForSitePerProcess",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
"""Without these Chromium itself calls other hosts, and starts processes that nothing uses."""
PATIENCE_MS = 30_000
"""Many times what any step takes, since the machine may be busy."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium, started once, since its start takes longer than most tests."""
    path = require("chromium")
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_QUIET)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def browser(chromium: Browser) -> AsyncIterator[Browser]:
    """A browser without pages, cookies or storage; it closes what a test opens."""
    yield chromium
    for context in list(chromium.contexts):
        await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def operator(browser: Browser, service: Service) -> AsyncIterator[Operator]:
    """An operator with all scopes, on a page without errors."""
    page = await browser.new_page(viewport={"width": 1280, "height": 900})
    operator = await Operator(page, service).sign_in()
    yield operator
    operator.assert_no_errors()
