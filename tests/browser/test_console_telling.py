"""The console's pages of webhooks with their deliveries, of the settings and of the audit."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from standardwebhooks import Webhook

from service.server.requests.webhook_protocol import EVENTS
from tests.browser.operator import Operator
from tests.harness.service_fixture import Service, new_code, new_id, ok
from tests.integration.webhooks.webhook_fixtures import Receiver

pytestmark = pytest.mark.asyncio(loop_scope="session")
ASSETS = Path(__file__).parents[2] / "service/console/static/console/assets"
CHANGES = 55
"""More than a page of the audit."""


async def test_a_webhook_from_its_making_on(operator: Operator, service: Service) -> None:
    """The page shows a new secret once; deliveries appear live and are sent again; the webhook is
    changed, switched off and on, and deleted."""
    page, code = operator.page, new_code()
    dialog = page.get_by_role("dialog")
    async with Receiver().listening() as receiver:
        await operator.open_page("webhooks", "Webhooks")
        await operator.button("New webhook").click()
        events = await dialog.get_by_role("checkbox").evaluate_all("all => all.map((one) => one.labels[0].textContent)")
        assert tuple(events) == EVENTS
        await page.get_by_label("Address").fill("http://192.168.0.1/hook")
        await page.get_by_label("coupon.redeemed").check()
        await page.get_by_label("Description").fill("orders service")
        await operator.button("Create webhook").click()
        await expect(page.get_by_label("Address")).to_have_attribute("aria-invalid", "true")
        await page.get_by_label("Address").fill(receiver.url())
        await operator.button("Create webhook").click()
        await expect(operator.heading("Webhook")).to_be_visible()
        secret = await page.locator("output.code").inner_text()
        await operator.button("Close").click()
        await expect(page.locator("output.code")).to_have_count(0)
        assert secret not in await page.content()

        service.book(code)
        ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": new_id()}), 201)
        row = operator.row("coupon.redeemed").get_by_role("cell")
        await expect(row.nth(2)).to_have_text("delivered")
        await expect(row.nth(3)).to_have_text("1")
        (got,) = receiver.got
        await row.nth(1).get_by_role("button").click()
        shown = await dialog.get_by_role("region", name="Body").inner_text()
        assert json.loads(shown) == json.loads(got.body)
        await expect(dialog).to_contain_text(f"webhook-id: {got.headers['webhook-id']}")
        assert got.headers["webhook-signature"] not in await page.content()
        await operator.button("Cancel").click()
        assert Webhook(secret).verify(got.body, got.headers)["data"]["code"] == code

        receiver.judge, receiver.answer = lambda got: 503, b"<b>not \x1b[1m now"
        await operator.button("Send a test event").click()
        await expect(dialog).to_contain_text(re.compile(r"status 503, [\d,]+ ms"))
        await expect(dialog.get_by_text("<b>not \\x1b[1m now")).to_be_visible()
        await operator.button("Cancel").click()
        row = operator.row("webhook.test").get_by_role("cell")
        await expect(row.nth(4)).to_contain_text("status 503")
        await expect(row.nth(2)).to_have_text("pending")
        await expect(row.nth(4)).to_contain_text(re.compile(r"next .*\d\d:\d\d:\d\d"))
        await operator.picture("console-deliveries")
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await page.get_by_text("Code for the receiver that checks the signature").click()
        for language, file in (("Python", "verify.py"), ("Node", "verify.mjs")):
            await operator.button(f"Copy {language}").click()
            await expect(page.get_by_text("Copied.")).to_have_count(1 if language == "Python" else 2)
            assert await page.evaluate("navigator.clipboard.readText()") == (ASSETS / file).read_text("utf-8")
        receiver.judge = lambda got: 204
        again = operator.row("webhook.test").get_by_role("button", name="again")
        await again.focus()
        await again.press("Enter")
        await expect(row.nth(2)).to_have_text("delivered")
        await expect(again).to_be_focused()

        await operator.button("Switch off").click()
        await operator.confirm("Switch the webhook off?", "for up to 14 days", "Switch off")
        await expect(operator.button("Switch on")).to_be_visible()
        await operator.button("Send a test event").click()
        await operator.expect_message("once the webhook is switched on")
        waiting = operator.row("webhook.test").first.get_by_role("cell")
        await expect(waiting.nth(2)).to_have_text("pending")
        await expect(waiting.nth(4)).to_contain_text("due since")
        await operator.button("Switch on").click()
        await operator.confirm("Switch the webhook on?", "events that wait", "Switch on")
        await expect(waiting.nth(2)).to_have_text("delivered")

        await operator.button("Change").click()
        await page.get_by_label("book.exhausted").check()
        await page.get_by_label("Description").fill("changed here")
        await operator.button("Save").click()
        await expect(page.get_by_text("changed here")).to_be_visible()
        await operator.button("New secret").click()
        await page.get_by_label("Old secret signs for").select_option("an hour")
        await operator.button("Create secret").click()
        await expect(dialog).to_contain_text("The new signing secret")
        newer = await page.locator("output.code").inner_text()
        await operator.button("Close").click()
        await operator.button("Send a test event").click()
        await expect(dialog).to_contain_text("status 204")
        await operator.button("Cancel").click()
        await expect(operator.row("delivered")).to_have_count(4)
        for one in (secret, newer):
            Webhook(one).verify(receiver.got[-1].body, receiver.got[-1].headers)

        await operator.open_page("webhooks", "Webhooks")
        await expect(operator.row("changed here")).to_contain_text("book.exhausted")
        await operator.row("changed here").get_by_role("link").click()
        await operator.button("Delete").click()
        await operator.confirm("Delete the webhook?", receiver.url(), "Delete webhook")
        await expect(operator.heading("Webhooks")).to_be_visible()
        await expect(operator.row("changed here")).to_have_count(0)


async def test_the_test_receiver(operator: Operator, service: Service) -> None:
    """The demo's own receivers answer its webhooks with 200, 503 or 410, and any other request with 404."""
    page = operator.page
    await operator.open_page("webhooks", "Webhooks")
    await operator.button("New webhook").click()
    await operator.button("accepts everything").click()
    await page.get_by_label("job.finished").check()
    await operator.button("Create webhook").click()
    await operator.button("Close").click()
    first = operator.row("webhook.test").first.get_by_role("cell")
    for receiver, result in (
        ("", first.get_by_text("delivered", exact=True)),
        ("fails", first.get_by_text("status 503")),
        ("is gone", page.get_by_text("its receiver answered 410")),
    ):
        if receiver:
            await operator.button("Change").click()
            await operator.button(receiver).click()
            await operator.button("Save").click()
        await operator.button("Send a test event").click()
        await expect(page.get_by_role("dialog")).to_contain_text("Delivery of webhook.test")
        await operator.button("Cancel").click()
        await expect(result).to_be_visible()
    await operator.button("Delete").click()
    await operator.confirm("Delete the webhook?", "/console/receiver/410", "Delete webhook")
    for status in ("200", "500", "x"):
        assert service.anonymous.post(f"/console/receiver/{status}", json={}).status_code == 404


async def test_the_settings(browser: Browser, service: Service) -> None:
    """The workspace's settings are shown and changed; a mistake is shown beside its field, and an empty one resets."""
    service = service.make_workspace(new_id("settings"), "live")
    operator = await Operator(page := await browser.new_page(), service).sign_in()
    await operator.open_page("settings", "Settings")
    main = operator["main"]
    storage = r"Storage\s*\d+ of 4,096 MiB"
    shown = rf"Name\s*{service.workspace}.*Mode\s*live.*{storage}\s*Access.*Idempotency-Keys\s*24 hours"
    await expect(main).to_contain_text(re.compile(shown, re.DOTALL))
    await operator.button("Change").click()
    hours, percent = page.get_by_label("Hours an Idempotency-Key"), page.get_by_label("Held share of what is left")
    await hours.fill("25")
    await percent.fill("101")
    await operator.button("Save").click()
    await expect(percent).to_have_accessible_description(re.compile("^Must be at most 100"))
    await percent.fill("90")
    await operator.button("Save").click()
    await operator.expect_message("The settings are changed.")
    await expect(main).to_contain_text(re.compile(r"25 hours.*Held share of what is left \(%\)\s*90", re.DOTALL))
    changed = ok(service.operate.get("/v1/workspace"))
    assert (changed["idempotencyHours"], changed["limits"]["books"]["lockedPercent"]) == (25, 90)
    service.book(discount={"type": "fixed", "value": 5})
    await page.reload()
    await operator.button("Change").click()
    await page.get_by_label("Currency").fill("eur")
    await page.get_by_label("Time zone").fill("Europe/Berlin")
    warning = page.get_by_role("dialog").get_by_role("status")
    await expect(warning).to_contain_text("Books in USD (1) keep it, and refuse")
    await expect(warning).to_contain_text("begin by Europe/Berlin from now on")
    await operator.picture("console-settings-warning")
    await page.get_by_label("Currency").fill("usd")
    await page.get_by_label("Time zone").fill("UTC")
    await expect(warning).to_be_empty()
    await hours.fill("")
    await percent.fill("")
    await operator.button("Save").click()
    await expect(main).to_contain_text("24 hours")
    await operator.button("Change").click()
    await page.get_by_label("Currency").fill("eur")
    await operator.button("Save").click()
    await expect(main).to_contain_text(re.compile(r"Currency\s*EUR"))
    await page.get_by_role("link", name="Books").click()
    await operator.button("New book").click()
    await page.get_by_label("Kind").select_option("Fixed amount")
    await expect(page.get_by_label("Amount (EUR)")).to_be_visible()
    reset = ok(service.operate.get("/v1/workspace"))
    assert (reset["idempotencyHours"], reset["limits"]) == (24, None)
    operator.assert_no_errors()


async def test_the_audit(operator: Operator, service: Service) -> None:
    """The audit lists changes and sign-ins with before and after, filtered by actor, action and time, page by page."""
    page, user, name = operator.page, new_id(), new_id("auditor")
    made = ok(service.operate.post("/v1/keys", json={"name": name, "scopes": ["manage", "operate"]}), 201)
    client = service.client(made["secret"])
    ok(client.post("/v1/users", json={"userId": user}), 201)
    for most in range(1, CHANGES):
        ok(client.patch(f"/v1/users/{user}", json={"maxCoupons": most}))
    await operator.button("Sign out").click()
    await operator.sign_in(made["secret"])
    book = service.book(name="Audited", client=client)
    ok(client.patch(f"/v1/books/{book}", json={"maxRedemptions": 7}))

    await operator.open_page("audit", "Audit")
    row = operator.row("Audited").filter(has_text="book.changed")
    await expect(row.get_by_role("link", name="Audited")).to_have_attribute("href", f"#/book/{book}")
    await expect(row).to_contain_text("Max redemptions: none → 7")
    await expect(operator.row("session.began").first.get_by_role("cell").nth(3)).to_have_text(name)
    await row.get_by_role("link", name=name).click()
    await expect(page.get_by_label("Who")).to_have_value(f"={made['keyId']}")
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(50)
    await operator.button("Show more").click()
    await expect(rows).to_have_count(CHANGES + 3)  # a sign-in, a new book, its change
    await expect(operator.button("Show more")).to_have_count(0)
    await expect(rows.filter(has_text=name)).to_have_count(CHANGES + 3)
    assert made["secret"] not in await page.content()
    await operator.picture("console-audit")

    await page.get_by_label("Action").select_option("user.changed")
    await operator.button("Filter").click()
    await expect(rows.first).to_contain_text(f"Max coupons: {CHANGES - 2} → {CHANGES - 1}")
    await page.get_by_label("Who").select_option("The command line")
    await page.get_by_label("From").fill(f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%dT%H:%M:%S}")
    await operator.button("Filter").click()
    await expect(page.get_by_text("No entries match.")).to_be_visible()
    await page.get_by_role("link", name="Show all").click()
    await expect(rows.filter(has_text="book.changed").first).to_be_visible()
    async with page.expect_download() as exporting:
        await page.get_by_role("link", name="Export all").click()
    assert (await exporting.value).suggested_filename.endswith(".csv")


_READ_TYPED = """async ([value, isPercentage]) => {
  const { typedAmount } = await import("/console/assets/typed.js");
  try { return typedAmount({ name: "x", value }, isPercentage); } catch (problem) { return problem.errors[0].reason; }
}"""
_IN_TWO_WAYS = "can be read in two ways: write"


_TYPED = [
    *[("5", "5"), (" 49,90 ", "49.90"), ("49.9", "49.9"), ("0,500", "0.500"), ("1234.500", "1234.500")],
    *[(text, "1234.50") for text in ("1.234,50", "1,234.50", "1 234,50", "1\u202f234,50", "1'234.50", "1’234.50")],
    *[("1.234.567", "1234567"), ("1,234,567.8", "1234567.8"), ("1.234,567", "1234.567")],
    *[("1.000", f"{_IN_TWO_WAYS} 1000, or 1.00"), ("1,000", f"{_IN_TWO_WAYS} 1000, or 1.00")],
    *[("12,345", f"{_IN_TWO_WAYS} 12345, or 12.3450"), ("12,3450", "12.3450")],
    *[(text, text) for text in ("", "abc", "1,2,3", "1.23.456", "12.", ",5", "1.234.5678", "-1", "1e3")],
]


async def test_amounts_as_people_type_them(operator: Operator) -> None:
    """Both decimal separators and all usual separators of thousands are read; what has two meanings is asked about, and
    what has none is left to the API. A percentage has no thousands."""
    for typed, read in _TYPED:
        assert await operator.page.evaluate(_READ_TYPED, [typed, False]) == read
    assert await operator.page.evaluate(_READ_TYPED, ["12,345", True]) == "12.345"


async def test_sums_are_exact(operator: Operator) -> None:
    """Sums of amounts have every digit, in each currency's own number of them."""
    await operator.open_page("settings", "Settings")
    sums = """async (amounts) => (await import("/console/assets/dom.js")).sum(amounts)"""
    amounts = [("99999999999.99", "USD"), ("0.01", "USD"), ("7", "JPY"), ("90000000000000.01", "USD"), ("0.001", "KWD")]
    texts = [{"amount": amount, "currency": currency} for amount, currency in amounts]
    assert await operator.page.evaluate(sums, texts) == "90,100,000,000,000.01 USD and 7 JPY and 0.001 KWD"
    many = [{"amount": "99999999999.99", "currency": None}] * 1000
    assert await operator.page.evaluate(sums, many) == "99,999,999,999,990.00"
