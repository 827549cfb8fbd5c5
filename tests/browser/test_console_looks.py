"""Every page of the console: widths, themes, the keyboard alone, and WCAG at level AA."""

import pytest
from playwright.async_api import Browser, expect

from service.server.requests.webhook_protocol import EVENTS
from tests.browser.operator import Operator
from tests.browser.watched import Look
from tests.harness.service_fixture import Service, new_id, ok

pytestmark = pytest.mark.asyncio(loop_scope="session")
_LOOKS: tuple[Look, ...] = ((360, "dark"), (1600, "light"))
_HOOK = {"url": f"http://127.0.0.1:9/{'w' * 200}", "events": list(EVENTS), "description": "W" * 200}


async def test_every_page(browser: Browser, service: Service) -> None:
    """At 360 pixels in dark and 1600 in light nothing is cut off, and axe reports nothing. No width hides a column or
    a button; at 360 each row is a card, which is a row to a screen reader, too."""
    code, user, order = f"{'W' * 50}-1", new_id(), new_id("order")
    book = service.book(code, name="W" * 120, discount={"type": "fixed", "value": "123456.78"})
    body = {"userId": user, "orderId": order, "orderValue": 200_000}
    ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 201)
    ok(service.manage.post("/v1/users", json={"userId": user}), 201)
    hook = ok(service.operate.post("/v1/webhooks", json=_HOOK), 201)["webhookId"]
    for _ in range(2):
        assert service.operate.post(f"/v1/webhooks/{hook}/test", json={}).status_code == 202
    operator = Operator(page := await browser.new_page(), service)

    async def look(name: str) -> None:
        for width in (360, 1024, 1280):
            await operator.assert_columns_fit(f"console-{name}", width)
        await operator.assert_fits(f"console-{name}", _LOOKS)

    await page.goto(f"{operator.url}/console")
    await expect(operator["key"]).to_be_visible()
    await look("sign-in")
    await operator.sign_in()
    pages = {
        "": "Overview", "books": "Books", f"book/{book}": "W" * 120, f"book/{book}/settings": "W" * 120,
        f"book/{book}/redemptions": "W" * 120, "users": "Users", "redemptions": "Redemptions", "jobs": "Jobs",
        "reports": "Reports", "liability": "Gift cards",
        "webhooks": "Webhooks", f"webhook/{hook}": "Webhook", "audit": "Audit",
        "settings": "Settings",
        "keys": "Keys", "sale": "Flash sale", f"code/{code}": code, f"user/{user}": user, f"order/{order}": order,
        "search/nothing": "Search: nothing",
    }  # fmt: skip
    for address, title in pages.items():
        await operator.open_page(address, title)
        if not address:
            await page.get_by_text("As a table").first.click()
            await expect(page.get_by_text("Valkey 9")).to_be_visible()
        await look(address.partition("/")[0] or "overview")
    await operator.open_page("keys", "Keys")
    await page.set_viewport_size({"width": 360, "height": 900})
    key = page.get_by_role("row").filter(has=page.get_by_role("cell", name="admin", exact=True))
    await expect(key).to_have_css("display", "grid")
    await key.get_by_role("button", name="Revoke admin").click(trial=True)
    await operator.open_page("books", "Books")
    await operator.button("New book").click()
    await page.get_by_label("Kind").select_option("tiered")
    await operator.button("Add budget").click()
    await operator.button("Add limit").click()
    await look("new-book")
    await operator.open_page("webhooks", "Webhooks")
    await operator.button("New webhook").click()
    await look("new-webhook")
    await operator.open_page(f"book/{book}", "W" * 120)
    await operator.button("Change codes").click()
    await page.get_by_label("What to do").select_option("until")
    await look("bulk")
    assert service.operate.delete(f"/v1/webhooks/{hook}").status_code == 204
    operator.assert_no_errors()


async def test_with_the_keyboard(browser: Browser, service: Service) -> None:
    """Sign-in, pages, search, help and dialogs work without a mouse; the focus moves to what opens."""
    operator = Operator(page := await browser.new_page(), service)
    keyboard = page.keyboard
    await page.goto(f"{operator.url}/console")
    await expect(operator["key"]).to_be_focused()
    await keyboard.type("demo_admin")
    await keyboard.press("Enter")
    await expect(operator.heading("Overview")).to_be_focused()
    await keyboard.type("gb")
    await expect(operator.heading("Books")).to_be_focused()
    await keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    await expect(dialog).to_contain_text("Flash sale")
    await keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await keyboard.press("/")
    await expect(operator["search"]).to_be_focused()
    await keyboard.type("?gk")
    await expect(operator["search"]).to_have_value("?gk")
    await keyboard.press("Escape")
    await page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    await page.locator(".skip").focus()
    await keyboard.press("Enter")
    await expect(operator["main"]).to_be_focused()
    await keyboard.press("Tab")
    await expect(operator.button("New book")).to_be_focused()
    outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    await keyboard.press("Enter")
    await expect(page.get_by_label("Name", exact=True)).to_be_focused()
    await keyboard.press("Escape")
    await expect(operator.button("New book")).to_be_focused()
    operator.assert_no_errors()


async def test_the_theme_is_kept(browser: Browser, service: Service) -> None:
    """The button changes the theme: system, light, dark, system; a reload keeps the choice."""
    operator = Operator(page := await browser.new_page(color_scheme="dark"), service)
    await operator.sign_in("demo_manage")

    async def read_background() -> str:
        return await page.evaluate("getComputedStyle(document.body).backgroundColor")

    dark = await read_background()
    await operator.button("Theme: system").click()
    light = await read_background()
    assert light != dark
    await page.reload()
    await expect(operator.button("Theme: light")).to_be_visible()
    assert await read_background() == light
    await operator.button("Theme: light").click()
    await page.emulate_media(color_scheme="light")
    assert await read_background() == dark
    await operator.button("Theme: dark").click()
    assert await read_background() == light
