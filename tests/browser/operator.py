"""An operator who is signed in to the console."""

from playwright.async_api import Locator, Page, expect

from tests.browser.watched import Watched
from tests.harness.service_fixture import Service


class Operator(Watched):
    def __init__(self, page: Page, service: Service) -> None:
        super().__init__(page, service.run.url)
        self._key = f"{service.workspace}_admin"

    async def sign_in(self, key: str = "") -> "Operator":
        """Sign in, with a key of all scopes unless another is given, and wait for the overview."""
        await self.page.goto(f"{self.url}/console")
        await self["key"].fill(key or self._key)
        await self.button("Sign in").click()
        await expect(self["frame"]).to_be_visible()
        return self

    async def open_page(self, address: str, title: str) -> None:
        await self.page.goto(f"{self.url}/console#/{address}")
        await expect(self.heading(title)).to_be_visible()

    def heading(self, text: str) -> Locator:
        return self.page.get_by_role("heading", level=1, name=text, exact=True)

    def button(self, name: str) -> Locator:
        """Find a button that can be pressed, in a dialog where one is open."""
        return self.page.get_by_role("button", name=name, exact=True)

    def row(self, text: str) -> Locator:
        """Find the rows of tables that hold this text."""
        return self.page.locator("tbody tr", has_text=text)

    async def search(self, text: str) -> None:
        await self["search"].fill(text)
        await self["search"].press("Enter")

    async def confirm(self, question: str, text: str, label: str) -> None:
        """Press a button of the dialog with this question and text, and wait until the dialog is gone."""
        dialog = self.page.get_by_role("dialog", name=question, exact=True)
        await expect(dialog).to_contain_text(text)
        await dialog.get_by_role("button", name=label, exact=True).click()
        await expect(dialog).to_be_hidden()

    async def assert_keeps_focus(self, target: Locator) -> None:
        """Focus an element, wait until the page has replaced it, and assert that the new one has the focus."""
        await target.focus()
        await self.page.evaluate("document.activeElement.setAttribute('data-old', '')")
        await expect(target).not_to_have_attribute("data-old", "")
        await expect(target).to_be_focused()

    async def expect_message(self, text: str) -> None:
        await expect(self["messages"].get_by_text(text)).to_be_visible()
