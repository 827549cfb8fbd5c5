"""A page whose requests and errors a test checks, and pictures of it."""

import os
from pathlib import Path
from typing import Literal

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import ConsoleMessage, Locator, Page

NOT_LOADED = "Failed to load resource"
"""Chromium's own message for every response that is no success."""
Look = tuple[int, Literal["light", "dark"]]
"""A width in pixels, and the system's theme."""
_SCREENSHOTS = os.environ.get("SCRIP_TEST_SCREENSHOTS")
"""A folder for pictures of the pages; none are taken without it."""
_WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
_HIDDEN_COLUMNS = """[...document.querySelectorAll(".scroll")].filter((one) => one.scrollWidth > one.clientWidth)
  .map((one) => `${one.getAttribute("aria-label")}: ${one.scrollWidth} of ${one.clientWidth}`)"""
_axe = Axe()


class Watched:
    """A page of the service, with its requests and errors."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.asked: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._store_message)

    def __getitem__(self, name: str) -> Locator:
        """Find the element with this id."""
        return self.page.locator(f"#{name}")

    def _store_message(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)

    def assert_no_errors(self) -> None:
        """Assert that the page requested no other host, and reported no error but for responses that are refusals."""
        own = (f"{self.url}/", "data:", "blob:")
        assert [url for url in self.asked if not url.startswith(own)] == []
        assert [error for error in self.errors if not error.startswith(NOT_LOADED)] == []

    async def assert_fits(self, name: str, looks: tuple[Look, ...]) -> None:
        """Assert for each look that nothing is cut off, and that the page meets WCAG 2.2 at level AA."""
        for width, scheme in looks:
            await self.page.set_viewport_size({"width": width, "height": 900})
            await self.page.emulate_media(color_scheme=scheme)
            wide = await self.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, (name, width, wide)
            # A text that fades in has less contrast: wait for the end of all animations.
            await self.page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished))")
            result = await _axe.run(self.page, options={"runOnly": _WCAG, "resultTypes": ["violations"]})
            nodes = [
                (rule["id"], node["html"][:150]) for rule in result.response["violations"] for node in rule["nodes"]
            ]
            assert nodes == [], (name, width, scheme)
            await self.picture(f"{name}-{width}-{scheme}")

    async def assert_columns_fit(self, name: str, width: int) -> None:
        """Assert that nothing is beside this width, and no table has a column that it hides."""
        await self.page.set_viewport_size({"width": width, "height": 900})
        assert await self.page.evaluate("document.documentElement.scrollWidth") <= width, name
        await self.picture(f"{name}-{width}")
        assert await self.page.evaluate(_HIDDEN_COLUMNS) == [], name

    async def picture(self, name: str) -> None:
        """Take a picture of the whole page, if SCRIP_TEST_SCREENSHOTS is set."""
        if _SCREENSHOTS:
            await self.page.screenshot(path=Path(_SCREENSHOTS) / f"{name}.png", full_page=True)
