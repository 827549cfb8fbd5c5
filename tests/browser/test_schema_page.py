"""The reference of the API in Chromium, and that no page reports an error."""

import re

import pytest
from playwright.async_api import Browser, expect

from tests.browser.watched import Watched
from tests.service_fixture import Service, new_code, new_id, ok

pytestmark = pytest.mark.asyncio(loop_scope="session")
_NAMES = """rows => rows.map(row =>
  `${row.querySelector(".method").textContent} ${row.querySelector("code").textContent}`)"""


async def test_the_page_shows_every_operation(service: Service, browser: Browser) -> None:
    """The page shows all operations under their tags. An address with an operation's id opens it, with its fields,
    example and refusals; one with a refusal's code shows what it means."""
    watched = Watched(page := await browser.new_page(), service.run.url)
    document = service.anonymous.get("/schema/openapi.json").json()
    wanted = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    await page.goto(f"{watched.url}/schema#redeemCoupon")
    opened = watched["redeemCoupon"]
    await expect(opened.locator("summary").first).to_be_focused()
    assert set(await page.eval_on_selector_all(".operation > summary", _NAMES)) == wanted
    for tag in document["tags"]:
        await expect(page.locator(f"section#{tag['name']} .operation").first).to_be_attached()
    await expect(opened.locator("dt", has_text="userId").first).to_contain_text("required")
    await expect(opened.get_by_role("region", name="The request as a command")).to_contain_text('"orderId": "A-1001"')
    await opened.get_by_text(re.compile(r"\d+ refusals")).click()
    await watched.assert_fits("schema", ((360, "dark"), (1600, "light")))
    await opened.get_by_role("link", name="order_already_used").click()
    await expect(watched["order_already_used"]).to_contain_text("The order has already used another coupon.")
    await expect(watched["order_already_used"]).to_be_focused()
    await page.goto(f"{watched.url}/schema#method_not_allowed")  # of no operation in the document
    await expect(watched["method_not_allowed"]).to_be_focused()
    assert watched.errors == []
    watched.assert_no_errors()


async def test_the_reference_with_the_keyboard(service: Service, browser: Browser) -> None:
    """The filter finds an operation, which the keyboard opens, fills in and sends; a refusal is shown, too. The key is
    neither stored nor in the command."""
    code, user = new_code(), new_id()
    service.book(code)
    watched = Watched(page := await browser.new_page(), service.run.url)
    keyboard = page.keyboard
    await page.goto(f"{watched.url}/schema")
    await expect(page.locator(".operation").first).to_be_visible()
    await keyboard.type("/post redeem coupon")
    await expect(watched["count"]).to_have_text("1 operation found.")
    await keyboard.press("Enter")
    await keyboard.press("Enter")
    opened = watched["redeemCoupon"]
    await expect(opened).to_have_attribute("open", "")
    await expect(page).to_have_url(f"{watched.url}/schema#redeemCoupon")
    await opened.get_by_text("Try it").focus()
    await keyboard.press("Enter")
    await opened.get_by_label("API key or user token").fill("demo_admin")
    await opened.get_by_label("code", exact=True).fill(code)
    await opened.get_by_label("Body").fill(f'{{"userId": "{user}"}}')
    command = opened.get_by_role("region", name="The request as a command")
    await expect(command).to_contain_text(f"/v1/coupons/redeem/{code}")
    assert "demo_admin" not in await command.inner_text()
    for number in (201, 409):
        await opened.get_by_role("button", name="Send").press("Enter")
        await expect(opened.locator(".answer .badge")).to_have_text(str(number))
    await expect(opened.get_by_role("region", name="The answer")).to_contain_text('"code": "coupon_redeemed"')
    await watched.picture("schema-try")
    assert ok(service.manage.get(f"/v1/coupons/{code}"))["lastRedemption"]["userId"] == user
    assert "demo_admin" not in str(
        await page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    )
    watched.assert_no_errors()


async def test_no_page_reports_an_error(service: Service, browser: Browser) -> None:
    """The browser reports no error at `/` and at any address that it names, and finds an icon."""
    watched = Watched(page := await browser.new_page(), service.run.url)
    index = ok(service.anonymous.get("/"))
    for path in ("/", "/problems/expired", *(one for one in index.values() if one.startswith("/"))):
        await page.goto(watched.url + path, wait_until="networkidle")
        assert watched.errors == [], path
    answer = service.anonymous.get("/favicon.ico")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/svg+xml")
