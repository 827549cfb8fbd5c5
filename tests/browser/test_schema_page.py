"""The page of the API in Chromium."""

import pytest
from playwright.async_api import Browser

from tests.browser.watched import Watched
from tests.service_fixture import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")
_NAMES = """blocks => blocks.map(block => {
  const part = name => block.querySelector(`.opblock-summary-${name}`)
  return `${part("method").innerText} ${part("path").dataset.path}`
})"""


async def test_the_page_shows_every_operation(service: Service, browser: Browser) -> None:
    """The page shows all operations under their tags, opens one with its example, and requests no other host."""
    watched = Watched(page := await browser.new_page(viewport={"width": 1280, "height": 1600}), service.run.url)
    await page.goto(f"{service.run.url}/schema")
    document = service.anonymous.get("/schema/openapi.json").json()
    wanted = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    await page.wait_for_selector(".opblock")
    assert set(await page.eval_on_selector_all(".opblock-summary", _NAMES)) == wanted
    assert await page.locator(".opblock-tag").count() == len(document["tags"])

    opened = page.locator(".opblock", has=page.locator('[data-path="/v1/coupons/redeem/{code}"]'))
    await opened.locator(".opblock-summary-control").click()
    await opened.get_by_text('"orderId": "A-1001"').first.wait_for()
    await opened.get_by_text("order_already_used").first.wait_for()
    await watched.picture("schema")
    assert watched.errors == []
    watched.assert_no_errors()
    assert len(watched.asked) >= 4
