"""The reference of the API in Chromium, and that no page reports an error."""

import re

import pytest
from playwright.async_api import Browser, expect

from tests.browser.watched import Watched
from tests.harness.service_fixture import Service, new_code, new_id, ok

pytestmark = pytest.mark.asyncio(loop_scope="session")
_OPEN_ALL = """async () => {
  const unmade = "details:not([open]), details:not(:has(> :nth-child(2)))";
  for (let some; (some = document.querySelectorAll(unmade)).length > 0;) {
    for (const one of some) one.open = true;
    await new Promise(requestAnimationFrame);
  }
}"""
_NAMES = """rows => rows.map(row =>
  `${row.querySelector(".method").textContent} ${row.querySelector("code").textContent}`)"""


async def test_the_page_shows_every_operation(service: Service, browser: Browser) -> None:
    """The page shows each operation once, under its tag. An address with an operation's id opens it, with its fields,
    example and refusals; one with a refusal's code shows what it means and what to do. No regular expression is shown.
    """
    watched = Watched(page := await browser.new_page(), service.run.url)
    document = service.anonymous.get("/schema/openapi.json").json()
    all_of = {
        f"{method.upper()} {path}": one for path, item in document["paths"].items() for method, one in item.items()
    }
    aliases = [name for name, one in all_of.items() if "x-same-as" in one]
    assert sorted(aliases) == ["GET /v1/coupons", "POST /v1/coupons"]
    await page.goto(f"{watched.url}/schema#redeemCoupon")
    opened = watched["redeemCoupon"]
    await expect(opened.locator("summary").first).to_be_focused()
    shown = await page.eval_on_selector_all(".operation > summary", _NAMES)
    assert sorted(shown) == sorted(all_of.keys() - aliases)
    for tag in document["tags"]:
        await expect(page.locator(f"section#{tag['name']} .operation").first).to_be_attached()
    await expect(opened.locator("dt", has_text="userId").first).to_contain_text("required")
    await expect(opened.get_by_role("region", name="The request")).to_contain_text('"orderId": "A-1001"')
    await opened.get_by_text(re.compile(r"\d+ refusals")).click()
    await watched.assert_fits("schema", ((360, "dark"), (1600, "light")))
    await opened.get_by_role("link", name="order_already_used").click()
    meaning = "shopper The order has already used another coupon. GET /v1/users/{userId}/redemptions has its redemption"
    await expect(watched["order_already_used"]).to_contain_text(meaning)
    await expect(watched["order_already_used"]).to_be_focused()
    await page.goto(f"{watched.url}/schema#createCoupons")
    await expect(watched["createBook"]).to_contain_text("Also at POST /v1/coupons.")
    await page.evaluate(_OPEN_ALL)
    assert "(?:" not in (text := await watched["main"].inner_text())
    assert "[A-Z" not in text
    await page.goto(f"{watched.url}/schema#method_not_allowed")  # of no operation in the document
    await expect(watched["method_not_allowed"]).to_be_focused()
    assert watched.errors == []
    watched.assert_no_errors()


async def test_the_search(service: Service, browser: Browser) -> None:
    """It finds operations by their own words, else by their parameters, fields, headers, refusals and descriptions,
    and says where; and refusals by what they mean."""
    watched = Watched(page := await browser.new_page(), service.run.url)
    await page.goto(f"{watched.url}/schema")
    await expect(page.locator(".operation").first).to_be_visible()
    search, found = watched["search"], page.locator(".operation:visible")
    for text, operation, where in (
        ("idempotency", "redeemCoupon", "header Idempotency-Key"),
        ("discount", "redeemCoupon", "field discountAmount"),
        ("coupon_locked", "redeemCoupon", "refusal coupon_locked"),
        ("refund", "rollbackOrder", ""),
    ):
        await search.fill(text)
        await expect(watched["count"]).to_contain_text(re.compile(r"^\d+ operations?( and \d+ refusals?)? found\."))
        await expect(watched[operation]).to_be_visible()
        await expect(watched[operation].locator(".where")).to_contain_text(where)
        assert 0 < await found.count() < 60, text
        await watched.picture(f"schema-search-{text}")
    await expect(watched["rollbackRedemption"]).to_be_visible()
    await search.fill("Retry-After")
    await expect(watched["coupon_locked"]).to_be_visible()
    await search.fill("another coupon")
    await expect(watched["order_already_used"]).to_be_visible()
    await search.fill("lock")
    await expect(watched["count"]).to_contain_text("4 operations and")
    await watched.assert_fits("schema-search", ((360, "light"), (1024, "dark"), (1600, "light")))
    await page.get_by_role("button", name="Show them").click()
    await expect(watched["redeemCoupon"]).to_be_visible()
    await search.fill("no such thing")
    await expect(watched["count"]).to_have_text("0 operations found. ")
    await expect(found).to_have_count(0)
    await search.fill("")
    await expect(page.locator("section:visible")).to_have_count(await page.locator("section.group").count())
    assert watched.errors == []


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
    await expect(watched["count"]).to_contain_text("1 operation and 1 refusal found.")
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
    command = opened.get_by_role("region", name="The request")
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
