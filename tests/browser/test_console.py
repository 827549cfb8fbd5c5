"""The console in Chromium: sign-in, live figures, and what operators do."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.async_api import Browser, Route, expect

from tests.browser.operator import Operator
from tests.browser.watched import Look
from tests.harness.service_fixture import Service, new_code, new_id, ok, refused

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_signing_in(browser: Browser, service: Service) -> None:
    """Without an operator's key the console shows nothing; a session ends at sign-out and with its key."""
    operator = Operator(page := await browser.new_page(), service)
    await page.goto(f"{operator.url}/console#/keys")
    await expect(operator["frame"]).to_be_hidden()
    await expect(operator["key"]).to_be_focused()
    assert operator.errors == []
    for key, message in (("wrong", "This key does not exist"), ("demo_checkout", "This request needs an API key")):
        await operator["key"].fill(key)
        await operator["key"].press("Enter")
        await expect(operator["sign-in-error"]).to_contain_text(message)
    await expect(operator["frame"]).to_be_hidden()
    assert [url for url in operator.asked if "/v1/" in url or "/data/" in url] == []

    made = ok(service.operate.post("/v1/keys", json={"name": new_id("key"), "scopes": ["manage"]}), 201)
    await operator["key"].fill(made["secret"])
    await operator["key"].press("Enter")
    await expect(operator["nav"].get_by_role("link")).to_have_text(
        ["Overview", "Books", "Users", "Redemptions", "Reports", "Jobs"]
    )
    await expect(operator.heading("Your key may not open this page")).to_be_visible()
    await expect(page.get_by_role("main")).to_contain_text("a key that has the scope operate; yours has manage.")
    await page.goto(f"{operator.url}/console#/nowhere")
    await expect(operator.heading("This page does not exist")).to_be_visible()
    assert made["secret"] not in str(
        await page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")
    )
    assert await page.evaluate("document.cookie") == ""
    await page.reload()
    await expect(operator["frame"]).to_be_visible()

    assert service.operate.delete(f"/v1/keys/{made['keyId']}").status_code == 204
    await page.goto(f"{operator.url}/console#/books")
    await expect(operator["sign-in-error"]).to_have_text("Your session has ended. Sign in again.")
    await operator.sign_in("demo_operate")
    await operator.button("Sign out").click()
    await expect(operator["key"]).to_be_focused()
    await page.reload()
    await expect(operator["frame"]).to_be_hidden()
    operator.assert_no_errors()


async def test_the_overview_is_live(operator: Operator, service: Service) -> None:
    """The overview updates without a reload: stock, and after a step of ten seconds charts and refusals by reason. The
    charts have an hour or a day, also after a reload, and a table each. Tables keep the focus."""
    name = new_id("book")
    await expect(operator.page.get_by_text("Valkey 9")).to_be_visible()
    glance = operator.page.locator(".facts")
    await expect(glance).to_contain_text(re.compile(r"Gate\s*open\s*epoch \d+"))
    await expect(glance).to_contain_text(re.compile(r"Not recorded yet\s*\d+\s*\d+\.\d\d s behind"))
    await expect(glance).to_contain_text(re.compile(r"Postgres 1\d"))
    await expect(glance).to_contain_text(re.compile(r"Reconciliation\s*(never|No drift|\d+ difference)"))
    service.book(new_code(), code := new_code(), name=name)
    row = operator.row(name).get_by_role("cell")
    await expect(row.nth(4)).to_have_text("2")
    stock = operator.page.get_by_role("region", name="Stock of each book")
    await stock.focus()
    ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": new_id()}), 201)
    refused(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "x"}), 409, "coupon_locked")
    await expect(row.nth(4)).to_have_text("1")
    await expect(row.nth(5)).to_have_text("1")
    await expect(stock).to_be_focused()
    for summary in await operator.page.get_by_text("As a table").all():
        await summary.click()
    of_locks = operator.page.get_by_role("region", name="Successful requests per second: highest of 5 minutes")
    await expect(of_locks).to_contain_text("Locks")
    await operator.assert_keeps_focus(of_locks)
    await expect(operator.row("coupon_locked")).to_be_visible()
    chart = operator.page.get_by_role("img", name="Refusals per second: Last hour. Refusals ")
    await expect(chart).to_be_visible()
    await operator.button("Last day").press("Enter")
    await expect(operator.button("Last day")).to_have_attribute("aria-pressed", "true")
    await expect(
        operator.page.get_by_role("region", name="Response time in ms: highest of 120 minutes")
    ).to_be_visible()
    assert operator.page.url.endswith("#/?span=day")
    assert len([url for url in operator.asked if url.endswith("/console")]) == 1
    await operator.button("Reconcile now").click()
    await operator.confirm("Reconcile now", "compares all of the workspace's data", "Reconcile")
    await operator.expect_message("The comparison has begun")
    await operator.picture("console-overview")


async def test_a_book(operator: Operator, service: Service) -> None:
    """A book is created with codes, changed, paused, resumed and ended, and its codes then say so; the question has the
    number of codes."""
    page, name = operator.page, new_id("book")
    gifts = service.book(name=(gifts_name := new_id("Gifts")))
    await operator.open_page("books", "Books")
    await operator.button("New book").click()
    await page.get_by_label("Name", exact=True).fill(name)
    await page.get_by_label("Kind").select_option("percentage")
    await page.get_by_label("Percent", exact=True).fill("101")
    await page.get_by_label("Codes to generate").fill("40")
    await operator.button("Create book").click()
    percent = page.get_by_label("Percent", exact=True)
    await expect(percent).to_have_accessible_description('Must be at most 100, but is "101".')
    await expect(percent).to_be_focused()
    await expect(page.get_by_role("dialog").get_by_text("Must be at most 100")).to_have_count(1)
    await expect(page.get_by_role("dialog").get_by_role("alert")).to_be_hidden()
    await operator.picture("console-field-error")
    await page.get_by_label("Percent", exact=True).fill("15")
    await page.get_by_label("Currency").fill("eur")
    await page.get_by_label("Minimum order value (EUR)").fill("1.000")
    await operator.button("Create book").click()
    least = page.get_by_label("Minimum order value (EUR)")
    await expect(least).to_have_accessible_description("Can be read in two ways: write 1000, or 1.00.")
    await least.fill("49,90")
    await operator.button("Create book").click()
    await expect(operator.heading(name)).to_be_visible()
    await expect(page.get_by_text("15 %, for orders from 49.90 EUR")).to_be_visible()
    await operator.expect_message("40 codes were generated.")
    await expect(page.get_by_role("table", name="Codes").get_by_role("row")).to_have_count(41)
    await expect(page).not_to_have_url(re.compile("job="))
    (book,) = ok(service.manage.get("/v1/books", params={"q": name}))["items"]
    (held,) = ok(service.manage.get(f"/v1/books/{book['bookId']}/codes", params={"limit": 1}))["items"]
    ok(service.checkout.post(f"/v1/coupons/lock/{held['code']}", json={"userId": "ann"}), 201)
    await operator.button("Change").click()
    await page.get_by_label("Gift of a checkout").select_option(gifts)
    await page.get_by_label("Redemptions in total").fill("30")
    await page.get_by_label("Only for the user it is assigned to").check()
    await page.get_by_label("End all live locks now").check()
    await operator.button("Add budget").click()
    await page.get_by_label("Budget", exact=True).fill("1.000")
    await operator.button("Add budget").click()
    await page.get_by_role("group", name="Budget 2").get_by_label("Budget", exact=True).fill("0")
    await operator.button("Save").click()
    first = page.get_by_role("group", name="Budget 1").get_by_label("Budget", exact=True)
    await expect(first).to_have_accessible_description("Can be read in two ways: write 1000, or 1.00.")
    await expect(first).to_be_focused()
    await first.fill("80,00")
    await operator.button("Save").click()
    second = page.get_by_role("group", name="Budget 2").get_by_label("Budget", exact=True)
    await expect(second).to_have_accessible_description('Must be more than 0, but is "0".')
    await expect(second).to_be_focused()
    await operator.button("Remove budget 2").click()
    await page.get_by_label("Period of the budget").select_option("lifetime")
    await operator.button("Add limit").click()
    await page.get_by_label("Uses", exact=True).fill("9999999999")
    await operator.button("Save").click()
    await expect(page.get_by_label("Uses", exact=True)).to_have_accessible_description(re.compile("Must be at most"))
    await operator.picture("console-bounds")
    await page.get_by_label("Uses", exact=True).fill("7")
    await operator.button("Save").click()
    await operator.expect_message(f"{name} is changed")
    (book,) = ok(service.manage.get("/v1/books", params={"q": name}))["items"]
    assert (book["maxRedemptions"], book["requireAssignment"], book["discount"]["value"]) == (30, True, "15")
    assert book["giftBookId"] == gifts
    assert book["budgets"] == [{"amount": "80.00", "per": "book", "period": "lifetime"}]
    assert book["useLimits"] == [{"uses": 7, "per": "book", "period": "day"}]
    await expect(page.get_by_text("80.00 EUR left of 80.00 EUR of the book in all")).to_be_visible()
    assert ok(service.checkout.get(f"/v1/coupons/{held['code']}"))["lock"] is None
    await operator.button("Pause").click()
    await operator.confirm(f"Pause {name}?", "Its 40 codes can't", "Pause book")
    await expect(page.get_by_text("paused", exact=True)).to_be_visible()
    assert ok(service.manage.get(f"/v1/books/{book['bookId']}"))["status"] == "inactive"
    await expect(operator.row("its book is paused")).to_have_count(40)
    await operator.button("Resume").click()
    await operator.confirm(f"Resume {name}?", "Its 40 codes", "Resume book")
    await operator.button("Generate").click()
    await page.get_by_label("Number of codes").fill("5")
    await operator.page.get_by_role("dialog").get_by_role("button", name="Generate", exact=True).click()
    await operator.expect_message("5 codes were generated.")
    progress = page.get_by_role("group", name="Generating")
    await expect(progress.get_by_role("progressbar", name="Generated")).to_have_js_property("value", 1)
    await expect(progress).to_contain_text(re.compile("5 of 5 codes.*done", re.DOTALL))
    await operator.button("End").click()
    await operator.confirm(f"End {name}?", "codes expire now", "End book")
    await operator.expect_message(f"{name} has ended.")
    await expect(operator.row("expired")).to_have_count(45)
    await expect(page.locator(".facts")).to_contain_text(re.compile(r"Available\s*0\D.*Expired\s*45\D", re.DOTALL))
    await expect(operator.button("End")).to_have_count(0)
    await page.get_by_role("link", name="Settings").last.click()
    await expect(page.get_by_role("link", name=gifts_name)).to_be_visible()
    await operator.open_page("jobs", "Jobs")
    await expect(operator.row(name).filter(has_text="generate").first).to_contain_text("done")


async def test_a_tiered_book(operator: Operator, service: Service) -> None:
    """Each tier has a row with a unit; an error is beside its field, in the form's words; and the list and the settings
    have the tiers in the same notation. Pages show the book's state with the same word."""
    page, name = operator.page, new_id("book")
    await operator.open_page("books", "Books")
    await operator.button("New book").click()
    await page.get_by_label("Name", exact=True).fill(name)
    await page.get_by_label("Kind").select_option("tiered")
    first, second = page.get_by_role("group", name="Tier 1"), page.get_by_role("group", name="Tier 2")
    await first.get_by_label("From order value").fill("100 10 %")
    await first.get_by_label("Discount").fill("10")
    await operator.button("Add a tier").click()
    await expect(second.get_by_label("From order value")).to_be_focused()
    await second.get_by_label("From order value").fill("200")
    await second.get_by_label("Discount").fill("30")
    await second.get_by_label("Unit").select_option("amount off")
    await operator.button("Create book").click()
    reason = 'Must be a decimal number such as 25.00, but is "100 10 %".'
    await expect(first.get_by_label("From order value")).to_have_accessible_description(reason)
    await operator.picture("console-tiers-refused")
    await first.get_by_label("From order value").fill("300")
    await operator.button("Create book").click()
    reason = 'Must be more than that of the tier before, but is "200".'
    await expect(second.get_by_label("From order value")).to_have_accessible_description(reason)
    await expect(page.get_by_role("dialog").get_by_role("alert")).to_be_hidden()
    await first.get_by_label("From order value").fill("100")
    await page.get_by_label("Valid from").fill("2030-01-02T00:00")
    await page.get_by_label("Valid until").fill("2030-01-01T00:00")
    await operator.button("Create book").click()
    await expect(page.get_by_label("Valid until")).to_have_accessible_description(
        re.compile("^Must be after valid from.")
    )
    await page.get_by_label("Valid until").fill("")
    await operator.button("Add a tier").click()
    await operator.button("Remove tier 3").click()
    await operator.button("Create book").click()
    await expect(operator.heading(name)).to_be_visible()
    (book,) = ok(service.manage.get("/v1/books", params={"q": name}))["items"]
    assert book["discount"]["tiers"] == [
        {"from": "100.00", "type": "percentage", "value": "10"},
        {"from": "200.00", "type": "fixed", "value": "30.00"},
    ]
    for address, title in ((f"book/{book['bookId']}/settings", name), (f"books?q={name}", "Books")):
        await operator.open_page(address, title)
        await expect(page.get_by_text("10 % from 100.00 USD, 30.00 USD off from 200.00 USD").first).to_be_visible()
        await expect(page.locator(".badge").first).to_have_text("not begun")
        await operator.picture(f"console-tiers-{title[:5]}")
    ok(service.manage.post(f"/v1/books/{book['bookId']}/codes", json={"codes": [new_code()]}))
    await operator.open_page(f"book/{book['bookId']}", name)
    await expect(operator.row("its book has not begun")).to_have_count(1)


async def test_a_book_of_cards(operator: Operator, service: Service) -> None:
    """A book of gift cards has an amount, in any notation, and no limit of redemptions for each code; an upload has a
    column for amounts and their sum, and the pages of book and code show what a card was issued with. With codes the
    book stays one of cards."""
    page, name, code = operator.page, new_id("book"), new_code()
    await operator.open_page("books", "Books")
    await operator.button("New book").click()
    await page.get_by_label("Name", exact=True).fill(name)
    limit = page.get_by_label("Redemptions per code")
    await expect(limit).to_be_visible()
    await page.get_by_label("Kind").select_option("balance")
    await expect(limit).to_be_hidden()
    await expect(page.get_by_label("Maximum discount")).to_have_count(0)
    await page.get_by_label("Amount of each card (USD)").fill("1.000")
    await operator.button("Create book").click()
    reason = re.compile("Can be read in two ways: write 1000, or 1.00")
    await expect(page.get_by_label("Amount of each card")).to_have_accessible_description(reason)
    await page.get_by_label("Amount of each card").fill("50,00")
    await operator.button("Create book").click()
    await expect(operator.heading(name)).to_be_visible()
    await expect(page.get_by_text("gift cards of 50.00 USD").first).to_be_visible()
    (book,) = ok(service.manage.get("/v1/books", params={"q": name}))["items"]
    assert (book["maxRedemptionsPerCode"], book["discount"]["value"]) == (None, "50.00")
    await operator.button("Upload").click()
    table = f"Karte;Guthaben\r\n{code};1.234,50\r\n{new_code()};\r\n"
    file = {"name": "cards.csv", "mimeType": "text/csv", "buffer": table.encode()}
    await page.get_by_label("A file").set_input_files(files=[file])
    await operator.button("Check file").click()
    await page.get_by_label("Karte").select_option("Code")
    await page.get_by_label("Guthaben").select_option("Amount of a card")
    await expect(page.get_by_role("region", name="Upload")).to_contain_text(
        re.compile(r"Amount of the cards\s*1.284\.50 USD")
    )
    await operator.picture("console-cards-upload")
    await operator.button("Upload 2 codes").click()
    await operator.expect_message(f"2 codes added to {name}.")
    await expect(operator.row(code)).to_contain_text(re.compile(r"1.234\.50 USD"))
    await operator.open_page(f"code/{code}", code)
    await expect(page.locator(".versus")).to_contain_text(re.compile(r"Issued with\s*1.234\.50 USD"))
    await operator.open_page(f"book/{book['bookId']}", name)
    await operator.button("Change").click()
    await page.get_by_label("Kind").select_option("fixed")
    await operator.button("Save").click()
    reason = re.compile("^Can't cease to be balance, since the book has codes")
    await expect(page.get_by_label("Kind")).to_have_accessible_description(reason)


async def test_codes_of_a_book(operator: Operator, service: Service, tmp_path: Path) -> None:
    """An upload's columns are mapped, and its rejected lines listed and saved; codes are uploaded, exported, and picked
    codes switched off."""
    page, there, new = operator.page, new_code(), sorted(new_code() for _ in range(2))
    book = service.book(there, name="Uploaded to")
    await operator.open_page(f"book/{book}", "Uploaded to")
    await operator.button("Upload").click()
    rows = ["Kunde;Gutschein;Farbe", f"ann;{new[0]};red", f"bob;{new[1]};", "eve;=no code;", f";{there};"]
    table = {"name": "codes.csv", "mimeType": "text/csv", "buffer": "\r\n".join(rows).encode()}
    await page.get_by_label("A file").set_input_files(files=[table])
    await operator.button("Check file").click()
    await expect(page.get_by_text('The header has no column code ("Kunde"')).to_be_visible()
    await expect(page.get_by_text("their ids, not their names")).to_be_visible()
    held: list[Route] = []

    def hold(route: Route) -> None:
        """Hold a check that a newer one ends. A route that is never answered would outlive the test."""
        held.append(route)

    await page.route(re.compile("columns=-%2Ccode%2C-"), hold)
    await page.get_by_label("Gutschein").select_option("Code")
    await expect(progress := page.get_by_role("progressbar", name="Sent and read")).to_be_visible()
    async with page.expect_event("requestfailed"):
        await page.get_by_label("Kunde").select_option("User")
    await held[0].abort()
    await expect(operator.row("=no code")).to_contain_text("4")
    await expect(progress).to_be_hidden()
    assert service.stats(book)["codes"] == 1
    async with page.expect_download() as saving:
        await operator.button("Save the rejected lines").click()
    await (await saving.value).save_as(tmp_path / "refused.csv")
    assert (tmp_path / "refused.csv").read_text().splitlines()[1].endswith(",eve;'=no code;")
    await expect(page.get_by_text("choose it again: codes that were added before count as duplicates")).to_be_visible()
    await operator.picture("console-upload")
    await operator.button("Upload 2 codes").click()
    await operator.expect_message("2 codes added to Uploaded to.")
    assert service.stats(book)["codes"] == 3
    async with page.expect_download() as exporting:
        await page.get_by_role("link", name="Export codes").click()
    await (await exporting.value).save_as(tmp_path / "codes.csv")
    assert new[0] in (tmp_path / "codes.csv").read_text()
    async with page.expect_download() as exporting:
        await page.get_by_role("link", name="Export redemptions").click()
    assert (await exporting.value).suggested_filename.endswith(".csv")
    await page.reload()
    for code in new:
        await page.get_by_label(f"Pick {code}").check()
    await operator.button("Change 2 picked codes").click()
    await operator.confirm("Switch off 2 codes", "2 codes of Uploaded to match", "Switch off 2 codes")
    await operator.expect_message("2 codes are switched off.")
    await expect(operator.row("switched off")).to_have_count(2)
    assert service.stats(book)["inactive"] == 2
    await expect(page.locator(".facts")).to_contain_text(re.compile(r"Switched off\s*2"))


async def test_dates_of_a_file(operator: Operator, service: Service, tmp_path: Path) -> None:
    """A check asks which number of a date is the month, and shows how it reads the first one; dates that begin late in
    the file are asked for, too. Files are saved for Excel of the chosen kind."""
    page, codes = operator.page, [new_code() for _ in range(3)]
    book = service.book(name="With dates")
    await operator.open_page(f"book/{book}", "With dates")
    await operator.button("Upload").click()
    dates = page.get_by_role("group", name="Read the dates as")
    rows = ["Code\tGültig bis\tPreis", f"{codes[0]}\t1.2.2030\t1,50 €", f"{codes[1]}\t46387\t"]
    rows.append(f"{'X' * 200}\t1.2.2030\t")
    table = {"name": "codes.txt", "mimeType": "text/plain", "buffer": "\r".join(rows).encode("utf-16")}
    await page.get_by_label("A file").set_input_files(files=[table])
    await page.get_by_label("A file").press("Control+Enter")
    await page.get_by_label("Gültig bis").select_option("Expires")
    await expect(page.get_by_text("The order of the dates is needed")).to_be_visible()
    await expect(operator.button("Upload").last).to_be_disabled()
    looks: tuple[Look, ...] = ((360, "light"), (1024, "dark"), (1600, "light"), (360, "dark"), (1600, "dark"))
    await operator.assert_fits("console-dates-asked", looks)
    await dates.get_by_label("Time zone").select_option("Asia/Tokyo")
    await dates.get_by_label("Order").select_option("Day, month, year")
    await expect(dates).to_contain_text("“1.2.2030” is 1 February 2030 at 23:59:59.")
    await expect(operator.row(codes[1])).to_contain_text("or a date such as 31.12.2026")
    await operator.assert_fits("console-dates-read", looks)
    await expect(page.get_by_role("region", name="Rejected lines")).to_be_visible()
    await operator.assert_columns_fit("console-dates-rejected", 1024)
    await page.get_by_label("Format of files").last.select_option("Excel, semicolons")
    async with page.expect_download() as saving:
        await operator.button("Save the rejected lines").click()
    await (await saving.value).save_as(tmp_path / "rejected.csv")
    assert (tmp_path / "rejected.csv").read_bytes().startswith(b"\xef\xbb\xbfline;reason;text\r\n3;")
    await dates.get_by_label("Order").press("Control+Enter")
    await operator.expect_message("1 code added to With dates.")
    assert ok(service.checkout.get(f"/v1/coupons/{codes[0]}"))["expiresAt"] == "2030-02-01T14:59:59.999Z"
    async with page.expect_download() as exporting:
        await page.get_by_role("link", name="Export codes").click()
    await (await exporting.value).save_as(tmp_path / "codes.csv")
    assert (tmp_path / "codes.csv").read_bytes().startswith(b"\xef\xbb\xbfcode;status;")

    rows = ["code,expires", *(f"{codes[2]}-{number}," for number in range(900)), f"{codes[2]},12/31/2030"]
    table = {"name": "late.csv", "mimeType": "text/csv", "buffer": "\n".join(rows).encode()}
    await page.get_by_label("A file").set_input_files(files=[table])
    await operator.button("Check file").click()
    await expect(operator.row(codes[2])).to_contain_text("has no offset: send `dates`")
    await dates.get_by_label("Order").select_option("Month, day, year")
    await expect(operator.button("Upload 901 codes")).to_be_enabled()
    await operator.button("Close").click()
    await expect(operator.row(codes[0]).get_by_role("link")).to_be_visible()


async def test_rolling_back_many(operator: Operator, service: Service) -> None:
    """Picked redemptions are rolled back together; the question has their number, users and discounts."""
    codes, user = [new_code(), new_code()], new_id()
    book = service.book(*codes, discount={"type": "fixed", "value": 4})
    for code in codes:
        body = {"userId": user, "orderId": new_id("order"), "orderValue": 20}
        ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 201)
    await operator.open_page("redemptions", "Redemptions")
    await operator.page.get_by_label("User", exact=True).fill(user)
    await operator.button("Filter").click()
    await expect(operator.page.locator("tbody tr")).to_have_count(2)
    for code in codes:
        await operator.page.get_by_label(f"Select the redemption of {code} by {user}").check()
    await operator.button("Roll back 2 redemptions").click()
    question = "2 redemptions of 2 codes by 1 user, with discounts of 8.00 USD in total."
    await operator.confirm("Roll back 2 redemptions?", question, "Roll back 2 redemptions")
    await operator.expect_message("2 redemptions rolled back.")
    await expect(operator.row(user).get_by_text("rolled back")).to_have_count(2)
    assert service.stats(book)["rolledBack"] == 2


async def test_a_user(operator: Operator, service: Service) -> None:
    """A user's cap is changed; the question before a deletion has the counts, and then all data is gone."""
    page, code, user = operator.page, new_code(), new_id()
    service.book(code)
    ok(service.manage.post("/v1/users", json={"userId": user}), 201)
    ok(service.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": user}), 201)
    await operator.open_page("users", "Users")
    await operator.row(user).get_by_role("link").click()
    await expect(page.get_by_role("region", name="Coupons")).to_contain_text(code)
    await operator.button("Change the limit").click()
    await page.get_by_label("Coupon limit").fill("3")
    await operator.button("Save").click()
    await expect(page.locator(".pairs dd", has_text=re.compile(r"^3$"))).to_be_visible()
    await operator.button("Delete the data").click()
    await operator.confirm(f"Delete the data of {user}?", "in 1 event, 1 coupon", "Delete the data")
    await operator.expect_message(f"The data of {user} is deleted.")
    assert ok(service.checkout.get(f"/v1/users/{user}"))["coupons"] == 0


async def test_a_key(operator: Operator, service: Service) -> None:
    """The page shows a new key's secret once, and Esc does not close it; a key works until it is rotated or revoked."""
    page, name = operator.page, new_id("key")
    await operator.open_page("keys", "Keys")
    await operator.button("New key").click()
    await page.get_by_label("Name", exact=True).fill(name)
    await page.get_by_label("checkout", exact=True).check()
    await operator.button("Create key").click()
    secret = await page.locator("output.code").inner_text()
    for _ in range(2):  # Chromium lets a page keep a dialog open once
        await page.keyboard.press("Escape")
    await expect(page.locator("output.code")).to_have_text(secret)
    assert service.client(secret).get("/v1/coupons/SUMMER-B").status_code == 200
    await operator.button("Close").click()
    await operator.button(f"Rotate {name}").click()
    await page.get_by_label("Old key stays valid for").select_option("no time")
    await operator.button("Rotate key").click()
    await expect(page.get_by_role("dialog")).to_contain_text(f"The new key {name}")
    refused(service.client(secret).get("/v1/coupons/SUMMER-B"), 401, "unauthenticated")
    secret = await page.locator("output.code").inner_text()
    assert service.client(secret).get("/v1/coupons/SUMMER-B").status_code == 200
    await operator.button("Close").click()
    await page.reload()
    row = operator.row(secret[:16])
    await row.get_by_role("button", name=f"Revoke {name}").click()
    assert secret not in await page.content()
    await operator.confirm(f"Revoke {name}?", "signed out", "Revoke key")
    await operator.expect_message(f"{name} is revoked.")
    await expect(row).to_have_count(0)
    refused(service.client(secret).get("/v1/coupons/SUMMER-B"), 401, "unauthenticated")


async def test_a_flash_sale(operator: Operator, service: Service) -> None:
    """A flash sale runs from a button, is plotted live, and ends with the check that nothing was oversold."""
    await operator.open_page("sale", "Flash sale")
    await operator.page.get_by_label("Buyers").fill("150")
    await operator.page.get_by_label("Coupons", exact=True).fill("20")
    await operator.button("Start the sale").click()
    await expect(operator["sold"]).to_be_visible()
    await expect(operator["verdict"]).to_contain_text("Nothing was oversold: of 20 coupons 20 are sold")
    await expect(operator["sold"]).to_have_text("20")
    await expect(operator.row("coupon_exhausted")).to_be_visible()
    points = await operator.page.locator("polyline.s1").get_attribute("points")
    assert points
    assert len(points.split()) > 3
    await operator.picture("console-sale")


async def test_the_service_is_away(operator: Operator) -> None:
    """The frame shows the data's age; without responses an alarm with its time, which goes with the next response."""
    await expect(operator["updated"]).to_have_text(re.compile(r"^Updated \d+ s ago$"))
    await operator.page.route("**/console/data/overview", lambda route: route.abort())
    alarm = operator.page.get_by_text("The service can't be reached.")
    await expect(alarm).to_contain_text(re.compile(r"The figures are those of [0-9-]{10} [0-9:]{8} UTC\.$"))
    await operator.picture("console-stale")
    await operator.page.unroute("**/console/data/overview")
    await expect(alarm).to_be_hidden()


async def test_an_older_postgres(browser: Browser, patient: Service) -> None:
    """The overview shows what Postgres lacks while the partition stays closed for that reason, and that there is no
    worker."""
    operator = await Operator(await browser.new_page(), patient).sign_in()
    lacks = "Postgres is older than Redis: it lacks 12 events or more (300 s)"
    closed = "UPDATE partitions SET state = 'closed', lacks = $2 WHERE id = $1"
    with patient.run.asleep("worker"):
        await patient.fetch(closed, patient.partition, lacks)
        banner = operator.page.locator(".banner", has_text=lacks)
        await expect(banner).to_contain_text("Bring the newer Postgres back")
        await expect(operator.page.get_by_role("cell", name="older", exact=True)).to_be_visible()
        await expect(operator.page.locator(".banner", has_text="No worker records")).to_be_visible()
        await operator.picture("console-older-postgres")
        await patient.fetch("UPDATE partitions SET state = 'open', lacks = NULL WHERE id = $1", patient.partition)
    await expect(banner).to_be_hidden()
    operator.assert_no_errors()


async def test_an_event_in_quarantine(browser: Browser, patient: Service) -> None:
    """The overview tells what happened to an event in quarantine, and a decision is done by a worker."""
    code, row = new_code(), "INSERT INTO quarantine VALUES ($1, 1, 7, 'unrecorded', 'only Redis knew of it', $2, '{}')"
    await asyncio.to_thread(patient.book, code)
    (found,) = await patient.fetch("SELECT workspace FROM codes WHERE code = $1", code)
    await patient.fetch(row, patient.partition, f"R {found['workspace']} 1 {code}  order-7".encode())
    operator = await Operator(await browser.new_page(), patient).sign_in()
    event = operator.row("1-7")
    await expect(event).to_contain_text("Redis was rebuilt before it was recorded")
    await expect(event).to_contain_text(code)
    await operator.assert_columns_fit("console-quarantine", 1024)
    await operator.picture("console-quarantine")
    await event.get_by_role("button", name="Switch off").click()
    dialog = operator.page.get_by_role("dialog")
    await expect(dialog).to_contain_text(f"redeemed, code {code} in order order-7.")
    await dialog.get_by_role("button", name="Switch off").click()
    await expect(event).to_be_hidden()
    await expect(operator.page.get_by_role("heading", name="Quarantine")).to_be_hidden()
    await patient.fetch("DELETE FROM quarantine")
    operator.assert_no_errors()


async def test_reports(operator: Operator, service: Service, tmp_path: Path) -> None:
    """A marketer sees how a book went beside another one, and saves the figures."""
    page, codes, others = operator.page, [new_code() for _ in range(3)], [new_code()]
    discount = {"type": "percentage", "value": 10, "currency": "EUR"}
    one, other = (service.book(*some, name=new_id("Reported"), discount=discount) for some in (codes, others))
    made = []
    for code in (*codes, *others):
        body = {"userId": new_id(), "orderValue": "1200.50", "currency": "EUR"}
        made.append(ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 201))
    ok(service.manage.post(f"/v1/redemptions/{made[-1]['redemptionId']}/rollback", json={}))
    times = [datetime.fromisoformat(redeemed["redeemedAt"]) for redeemed in made[:3]]
    await operator.open_page(f"reports?of=book+{one}&beside=book+{other}", "Reports")
    facts = page.locator(".facts > div")
    await expect(facts.filter(has_text="Order value")).to_contain_text("3,601.50 EUR")
    await expect(facts.filter(has_text="Rolled back")).to_contain_text("−100 % (1 in Reported")
    await expect(facts.filter(has_text="Sold out")).to_contain_text("s after the first redemption")
    await page.get_by_label("Compared with").select_option("The period before")
    await expect(facts.filter(has_text="New users")).to_contain_text("0 before")
    await expect(page.get_by_text("Each day before a change of the time zone keeps the former one")).to_be_visible()
    await page.get_by_label("Time").select_option("Today")
    await expect(page.get_by_role("img", name="Redemptions: This period 3, Before 0")).to_be_visible()
    await page.get_by_text("As a table").first.click()
    hours = page.get_by_role("table", name="Redemptions", exact=True).locator("tbody tr")
    await expect(hours.last).to_contain_text("00:00")
    await page.get_by_label("Time").select_option("Yesterday")
    await expect(page.get_by_role("img", name="Redemptions: This period 0, Before 0")).to_be_visible()
    await page.get_by_text("As a table").first.click()
    await expect(page.get_by_text("A user is new in the hour of the first redemption")).to_be_visible()
    await expect(hours.first).to_contain_text("23:00")
    await expect(hours.last).to_contain_text("00:00")
    await page.clock.set_fixed_time(times[-1].replace(hour=0, minute=0, second=1))
    await page.get_by_label("Time").select_option("Today")
    await expect(page.get_by_text("The last hour is not over yet")).to_be_visible()
    await page.get_by_text("As a table").first.click()
    await expect(hours).to_have_text(f"00:00{sum(at.hour == 0 for at in times)}0")
    await page.clock.set_fixed_time(datetime.now(UTC))
    await page.get_by_label("Time").select_option("Last 24 hours")
    await expect(page.get_by_role("img", name="Redemptions: This period 3, Before 0")).to_be_visible()
    async with page.expect_download() as saved:
        await page.get_by_text("Save the redemptions (CSV)").click()
    await (await saved.value).save_as(tmp_path / "redemptions.csv")
    assert "EUR,3,3601.50,360.15,0.00,0,3,0" in (tmp_path / "redemptions.csv").read_text()
    await expect(page.get_by_text("Amounts above are those in")).to_have_count(0)
    tag = new_id("mixed")
    for currency in ("EUR", "USD"):
        service.book(code := new_code(), tags=[tag], discount=discount | {"currency": currency})
        body = {"userId": new_id(), "orderValue": "10.00", "currency": currency}
        ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 201)
    await operator.open_page(f"reports?of=tag+{tag}", "Reports")
    await expect(page.get_by_text("Amounts above are those in")).to_be_visible()
    await operator.open_page(f"reports?of=book+{service.book()}", "Reports")
    await expect(operator.row("Held")).to_contain_text("–")
