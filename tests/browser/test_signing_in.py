"""People sign in to the console with their company's account, in a browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.operator import Operator
from tests.harness.openid_provider import served_with_people
from tests.harness.service_fixture import Service
from tests.harness.serving import Served

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:authlib"),  # the provider's use of it
]


@pytest.fixture
def served(service: Service, tmp_path: Path) -> Iterator[Served]:
    with served_with_people(service, tmp_path) as server:
        yield server


async def sign_in_as(page: Page, name: str) -> None:
    await page.get_by_role("button", name="Use your company's account").click()
    await page.get_by_role("button", name=name).click()


async def test_the_author_of_a_book(browser: Browser, operator: Operator, service: Service, served: Served) -> None:
    """A person without a role reads why; one with a role makes a book, and the audit names her."""
    page = await browser.new_page()
    ada = Operator(page, service)
    ada.url = served.url
    await page.goto(f"{served.url}/console")  # for the browser another site than the provider's
    await sign_in_as(page, "eve@shop.example")
    await expect(page.get_by_role("alert")).to_contain_text("have no role here")
    await expect(page).to_have_url(f"{served.url}/console")
    await ada.assert_fits("sign-in-of-people", ((360, "light"), (1280, "dark")))
    await sign_in_as(page, "ada@shop.example")
    await expect(ada["workspace"]).to_contain_text("ada@shop.example")
    await ada.open_page("keys", "Your role may not open this page")
    await ada.open_page("books", "Books")
    await ada.button("New book").click()
    await page.get_by_label("Name", exact=True).fill("Ada's spring")
    await ada.button("Create book").click()
    await expect(ada.heading("Ada's spring")).to_be_visible()
    await ada.button("Sign out").click()
    await expect(ada.button("Use your company's account")).to_be_focused()
    await operator.open_page("audit", "Audit")
    await expect(operator.row("book.created").first).to_contain_text("ada@shop.example")
    await operator.page.get_by_label("Person").fill("ada@shop.example")
    await operator.button("Filter").click()
    await expect(operator.row("key.created")).to_have_count(0)
    await expect(operator.row("session.began").first).to_contain_text("ada@shop.example")


async def test_one_of_several_workspaces(browser: Browser, service: Service, tmp_path: Path) -> None:
    """The page asks for the workspace's name, and Enter leads to its provider."""
    with served_with_people(service, tmp_path, "other") as server:
        page = await browser.new_page()
        console = Operator(page, service)
        await page.goto(f"{server.url}/console")
        await console.assert_fits("sign-in-of-workspaces", ((360, "light"), (1280, "dark")))
        await page.get_by_label("Workspace").fill(service.workspace)
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="ada@shop.example").click()
        await expect(console["workspace"]).to_contain_text(f"ada@shop.example · {service.workspace}")
