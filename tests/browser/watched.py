"""A page that is watched, and pictures of it for whoever asks for them."""

import os
from pathlib import Path

from playwright.async_api import ConsoleMessage, Page

_SCREENSHOTS = os.environ.get("SCRIP_TEST_SCREENSHOTS")
"""A folder for pictures of the pages; none are taken without it."""


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
