"""Debian's Chromium, and an operator who is signed in to the console."""

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser

from tests.browser.chromium import launched
from tests.browser.operator import Operator
from tests.harness.plugin import require
from tests.harness.service_fixture import Service


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium, started once, since its start takes longer than most tests."""
    async with launched(require("chromium-headless-shell")) as browser:
        yield browser


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
