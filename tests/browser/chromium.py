"""Debian's Chromium without windows, which calls no other host and takes half the CPU of the one with windows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright, expect

from tests.harness.waiting import PATIENCE_S

_QUIET = [
    *"--no-sandbox --disable-gpu --disable-background-networking --disable-component-update".split(),
    *"--disable-default-apps --disable-domain-reliability --disable-sync".split(),
    *"--no-default-browser-check --no-first-run --no-pings".split(),
    "--in-process-gpu",
    "--disable-software-rasterizer",
    "--disable-features=SpareRendererForSitePerProcess",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
"""Without these Chromium itself calls other hosts, and starts processes that nothing uses. Its software rasterizer sets
a variable of the environment in a thread while other threads read variables, which crashes it at times."""


@asynccontextmanager
async def launched(path: str) -> AsyncIterator[Browser]:
    """Chromium, started from this path; it ends with the block."""
    expect.set_options(timeout=PATIENCE_S * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_QUIET)
        yield browser
        await browser.close()
