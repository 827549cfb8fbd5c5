"""What gift cards are worth, in Chromium."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.browser.operator import Operator
from tests.harness.service_fixture import Service, new_code, new_id, ok

pytestmark = pytest.mark.asyncio(loop_scope="session")
_CARD = {"type": "balance", "value": "1000.00", "currency": "USD"}


async def test_what_cards_are_worth(browser: Browser, service: Service, tmp_path: Path) -> None:
    """The page says how to make a book of cards, and of those there are what was issued, spent and given back in a
    time, by book and currency, and what is outstanding, also on days without changes. It saves the days."""
    shop = service.make_workspace(new_id("shop"), "test")
    operator = Operator(page := await browser.new_page(viewport={"width": 1280, "height": 900}), shop)
    await operator.sign_in()
    await operator.open_page("reports", "Reports")
    await page.get_by_role("link", name="Gift cards", exact=True).click()
    await expect(operator.heading("Gift cards")).to_be_visible()
    await expect(page.get_by_role("main")).to_contain_text("choose the kind Gift card with a balance")
    await expect(page.get_by_text("Save the days")).to_have_count(0)

    card, name = new_code(), new_id("Cards")
    book = shop.book(card, new_code(), name=name, discount=_CARD, client=shop.admin)
    yen = {"type": "balance", "value": 5000, "currency": "JPY"}
    shop.book(new_code(), name="Yen", discount=yen, client=shop.admin)
    now = datetime.now(UTC)
    later = now + timedelta(days=2)
    ok(shop.admin.post("/v1/test/clock", json={"now": later.isoformat()}))
    for order, value in (("A-1", "400.00"), ("A-2", "30.50")):
        body = {"userId": "ann", "orderId": order, "orderValue": value}
        ok(shop.admin.post(f"/v1/coupons/redeem/{card}", json=body), 201)
    ok(shop.admin.post("/v1/orders/A-2/rollback", json={}))
    ok(shop.admin.post(f"/v1/coupons/{card}/close", json={}))
    ok(shop.admin.post(f"/v1/coupons/{card}/credit", json={"amount": "0.50"}))
    await page.clock.set_fixed_time(later)
    await operator.button("Refresh").click()
    figures = {
        "At the beginning": "0.00 USD and 0 JPY", "Issued": "2,000.00 USD and 5,000 JPY",
        "Credited": "0.50 USD and 0 JPY", "Spent": "430.50 USD and 0 JPY", "Given back": "30.50 USD and 0 JPY",
        "Closed": "600.00 USD and 0 JPY", "Outstanding at the end": "1,000.50 USD and 5,000 JPY",
    }  # fmt: skip
    facts = page.locator(".facts > div")
    await expect(facts).to_have_text([re.compile(f"{title}\\s*{amounts}$") for title, amounts in figures.items()])
    await expect(page.get_by_role("img", name="Outstanding in USD: At the day's end 1,001")).to_be_visible()
    await expect(page.get_by_role("img", name="Issued and spent in USD: Issued 2,000, Spent 431")).to_be_visible()
    await expect(page.get_by_role("img", name="Outstanding in JPY: At the day's end 5,000")).to_be_visible()
    await page.get_by_text("As a table").first.click()
    days = page.get_by_role("table", name="Outstanding in USD").locator("tbody tr")
    assert [text[-5:] for text in await days.all_inner_texts()][:3] == ["1,001", "2,000", "2,000"]
    await expect(operator.row(name)).to_contain_text("1,000.50 USD")
    await operator.assert_fits("console-liability", ((360, "dark"), (1600, "light"), (360, "light"), (1600, "dark")))
    for width in (360, 1024, 1280):
        await operator.assert_columns_fit("console-liability", width)
    async with page.expect_download() as saved:
        await page.get_by_text("Save the days (CSV)").click()
    await (await saved.value).save_as(tmp_path / "liability.csv")
    assert "USD,0.00,0.50,430.50,30.50,600.00,1000.50" in (tmp_path / "liability.csv").read_text()

    next_month = (later.replace(day=1) + timedelta(days=32)).replace(day=1, hour=1)
    await page.clock.set_fixed_time(next_month)
    ended = (now - timedelta(minutes=1)).isoformat()
    ok(shop.admin.patch(f"/v1/books/{book}", json={"validUntil": ended}))
    await page.get_by_label("Time").select_option("Last month")
    await expect(page).to_have_url(re.compile("period=lastMonth"))
    before = "2,000.00 USD" if now.month < later.month or now.year < later.year else "0.00 USD"
    await expect(facts.first).to_contain_text(before)
    await expect(facts.last).to_contain_text("1,000.50 USD and 5,000 JPY")
    await expect(operator.row(name)).to_contain_text("ended")
    await page.get_by_label("Books").select_option("Yen")
    await expect(facts.last).to_have_text(re.compile("5,000 JPY$"))
    await expect(operator.row(name)).to_have_count(0)
    await page.get_by_label("Time").select_option("This month")
    await expect(facts.first).to_contain_text("5,000 JPY")
    await expect(facts.nth(1)).to_have_text(re.compile("Issued\\s*0 JPY"))
    operator.assert_no_errors()


async def test_a_card_pays(browser: Browser, service: Service) -> None:
    """What a card took is a payment by card, and no discount, in the lists of redemptions, in the question before a
    rollback, in the overview, on its book's page and in the report."""
    shop = service.make_workspace(new_id("shop"), "test")
    operator = Operator(page := await browser.new_page(viewport={"width": 1280, "height": 900}), shop)
    card, coupon = new_code(), new_code()
    cards = shop.book(card, name="Cards", discount=_CARD, client=shop.admin)
    coupons = shop.book(coupon, name="Coupons", discount={"type": "fixed", "value": 5}, client=shop.admin)
    for code in (card, coupon):
        body = {"userId": "ann", "orderId": code, "orderValue": "12.34"}
        ok(shop.admin.post(f"/v1/coupons/redeem/{code}", json=body), 201)
    await operator.sign_in()

    await expect(operator.row("Cards").locator("td").last).to_have_text("12.34 USDpaid by card")
    await expect(operator.row("Coupons").locator("td").last).to_have_text("5.00 USDdiscounts given")
    await operator.picture("console-overview-cards")
    await operator.open_page("redemptions", "Redemptions")
    await expect(operator.row(card)).to_contain_text("12.34 USDpaid by card")
    await expect(operator.row(coupon)).to_contain_text("5.00 USDdiscount")
    for code in (card, coupon):
        await page.get_by_label(f"Select the redemption of {code} by ann").check()
    await operator.picture("console-redemptions-cards")
    await operator.button("Roll back 2 redemptions").click()
    question = "with discounts of 5.00 USD and payments by card of 12.34 USD in total."
    await expect(page.get_by_role("dialog")).to_contain_text(question)
    await page.keyboard.press("Escape")
    facts = page.locator(".facts > div")
    for book, name, amount in ((cards, "Paid by card", "12.34 USD"), (coupons, "Discounts given", "5.00 USD")):
        await operator.open_page(f"book/{book}", "Cards" if book == cards else "Coupons")
        await expect(facts.last).to_have_text(re.compile(f"{name}\\s*{amount}$"))
        await page.get_by_role("link", name="Redemptions", exact=True).last.click()
        title = "Paid by card" if book == cards else "Discount"
        await expect(page.get_by_role("columnheader", name=title, exact=True)).to_be_visible()
    await operator.open_page("reports", "Reports")
    await expect(facts.filter(has_text="Discount")).to_have_text(re.compile("Discount\\s*5.00 USD"))
    await expect(facts.filter(has_text="Paid by card")).to_have_text(re.compile("Paid by card\\s*12.34 USD"))
    await expect(page.get_by_role("img", name="Discount in USD: This period 5, Before 0")).to_be_visible()
    await expect(page.get_by_role("img", name="Paid by card in USD: This period 12.3, Before 0")).to_be_visible()
    names = await page.get_by_role("table", name="Redemptions by book").locator("thead th").all_text_contents()
    cells = await operator.row("Cards").locator("td").all_text_contents()
    assert (cells[names.index("Discount")], cells[names.index("Paid by card")]) == ("0.00 USD", "12.34 USD")
    await operator.assert_fits("console-reports-cards", ((360, "dark"), (1600, "light")))
    operator.assert_no_errors()


async def test_who_may_see_it(browser: Browser, service: Service) -> None:
    """It needs the scope of the reports; the checkout's and the operators' keys open nothing."""
    operator = Operator(page := await browser.new_page(), service)
    await operator.sign_in("demo_operate")
    await page.goto(f"{operator.url}/console#/liability")
    await expect(operator.heading("Your key may not open this page")).to_be_visible()
