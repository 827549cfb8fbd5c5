"""Somebody who is signed in to the console."""

from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Locator, Page, expect

from tests.browser.watched import Watched
from tests.service_fixture import Service

NOT_LOADED = "Failed to load resource"
"""Chromium's own word for every answer that is no success."""
_WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
_axe = Axe()


async def findings(page: Page) -> list[str]:
    """What axe finds on the page against WCAG 2.2 at level AA, once nothing moves: what fades in has less contrast."""
    await page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished))")
    answer = await _axe.run(page, options={"runOnly": _WCAG, "resultTypes": ["violations"]})
    violations: list[Any] = answer.response["violations"]
    return [f"{one['id']} ({one['impact']}): {node['html'][:150]}" for one in violations for node in one["nodes"]]


class Operator(Watched):
    """Somebody in front of the console."""

    def __init__(self, page: Page, service: Service) -> None:
        super().__init__(page)
        self.url = service.run.url

    def __getitem__(self, name: str) -> Locator:
        """What has this id in the page."""
        return self.page.locator(f"#{name}")

    async def signs_in(self, key: str = "demo_admin") -> "Operator":
        """Sign in; the overview is there."""
        await self.page.goto(f"{self.url}/console")
        await self["key"].fill(key)
        await self.button("Sign in").click()
        await expect(self["frame"]).to_be_visible()
        return self

    async def goes(self, address: str, title: str) -> None:
        """Go to a page, and wait until it is there."""
        await self.page.goto(f"{self.url}/console#/{address}")
        await expect(self.heading(title)).to_be_visible()

    def heading(self, text: str) -> Locator:
        """The page's title."""
        return self.page.get_by_role("heading", level=1, name=text, exact=True)

    def button(self, name: str) -> Locator:
        """A button that can be pressed, in a dialog where one is open."""
        return self.page.get_by_role("button", name=name, exact=True)

    def row(self, text: str) -> Locator:
        """The rows of tables that hold this text."""
        return self.page.locator("tbody tr", has_text=text)

    async def confirms(self, question: str, words: str, label: str) -> None:
        """A dialog asks this, in these words; press its button, and it goes."""
        dialog = self.page.get_by_role("dialog", name=question, exact=True)
        await expect(dialog).to_contain_text(words)
        await dialog.get_by_role("button", name=label, exact=True).click()
        await expect(dialog).to_be_hidden()

    async def hears(self, text: str) -> None:
        """It is told."""
        await expect(self["told"].get_by_text(text)).to_be_visible()

    def had_no_trouble(self) -> None:
        """It asked no other host, and there was no error but for answers that are refusals."""
        assert self.elsewhere(self.url) == []
        assert [error for error in self.errors if not error.startswith(NOT_LOADED)] == []
