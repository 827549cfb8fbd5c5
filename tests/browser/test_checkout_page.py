"""The mock checkout in Chromium: what a shopper does and sees, and that an order is paid once whatever goes wrong."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Request, Route, expect

from tests.browser.operator import findings
from tests.browser.watched import Watched
from tests.service_fixture import Service, new_code, new_id, ok

pytestmark = pytest.mark.asyncio(loop_scope="session")

CART = "$131.90"
TWENTY = {"type": "percentage", "value": 20}
_LOOKS: tuple[tuple[int, Literal["light", "dark"]], ...] = (
    (360, "light"), (360, "dark"), (800, "light"), (1600, "dark"),
)  # fmt: skip
_NOT_LOADED = "Failed to load resource"
"""Chromium's own word for every answer that is no success."""


class Shopper(Watched):
    """Somebody in front of the page."""

    url: str

    def __getitem__(self, name: str) -> Locator:
        """What has this id in the page."""
        return self.page.locator(f"#{name}")

    async def opens(self, service: Service) -> None:
        """Open the page as somebody new."""
        self.url = service.run.url
        await self.page.goto(f"{self.url}/checkout")
        self.user = new_id()
        await self["user"].fill(self.user)

    async def applies(self, code: str) -> None:
        """Type a code and apply it; it is held, and its discount known."""
        await self["code"].fill(code)
        await self["apply"].click()
        await expect(self["held-code"]).to_have_text(code)
        await expect(self["pay"]).to_be_enabled()

    async def reads(self, **texts: str | re.Pattern[str]) -> None:
        """What these show."""
        for name, text in texts.items():
            await expect(self[name.replace("_", "-")]).to_have_text(text)


@pytest_asyncio.fixture(loop_scope="session")
async def shopper(browser: Browser, service: Service) -> AsyncIterator[Shopper]:
    """A shopper at the page. It asked no other host, and there was no error but for answers that are refusals."""
    page = await browser.new_page(viewport={"width": 1280, "height": 900})
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    shopper = Shopper(page)
    await shopper.opens(service)
    yield shopper
    assert shopper.elsewhere(shopper.url) == []
    assert [error for error in shopper.errors if not error.startswith(_NOT_LOADED)] == []


def payments(shopper: Shopper) -> list[tuple[str, str | None]]:
    """The Idempotency-Key and body of each payment from now on."""
    seen: list[tuple[str, str | None]] = []

    def sent(request: Request) -> None:
        if request.url.endswith("/v1/checkout"):
            seen.append((request.headers["idempotency-key"], request.post_data))

    shopper.page.on("request", sent)
    return seen


def coupon(service: Service, code: str) -> dict[str, Any]:
    """A coupon as the API shows it."""
    return ok(service.checkout.get(f"/v1/coupons/{code}"))


async def test_a_purchase_and_its_gift(shopper: Shopper, service: Service) -> None:
    """A code is applied and held, the cart is paid for less, and the gift card pays a part of the next order."""
    gift, code = new_code().replace("T-", "GIFT-"), new_code().replace("T-", "SUMMER-")
    gifts = service.book(gift, name="Gift cards", discount={"type": "fixed", "value": 10})
    service.book(code, discount=TWENTY, giftBookId=gifts)
    await shopper.reads(value=CART, discount="$0.00", total=CART)

    await shopper.applies(code)
    await shopper.reads(discount="−$26.38", total="$105.52", pay="Pay $105.52", held_time=re.compile(r"^[45]:\d\d$"))
    before = await shopper["held-time"].inner_text()
    await expect(shopper["held-time"]).not_to_have_text(before)
    assert coupon(service, code)["lock"]["userId"] == shopper.user
    await shopper.picture("checkout-held")

    await shopper["pay"].click()
    await shopper.reads(receipt_code=code, receipt_discount="$26.38", receipt_total="$105.52", gift_code=gift)
    await expect(shopper["receipt-title"]).to_be_focused()
    assert coupon(service, code)["status"] == "redeemed"
    assert coupon(service, gift)["userId"] == shopper.user
    await shopper["copy"].click()
    await expect(shopper["message-text"]).to_have_text(f"{gift} is copied.")
    assert await shopper.page.evaluate("navigator.clipboard.readText()") == gift
    await shopper.picture("checkout-receipt")

    first = await shopper["order"].inner_text()
    await shopper["use-gift"].click()
    await expect(shopper["code"]).to_have_value(gift)
    await shopper["apply"].click()
    await shopper.reads(held_code=gift, discount="−$10.00", total="$121.90")
    await shopper["pay"].click()
    await shopper.reads(receipt_code=gift, receipt_total="$121.90")
    await expect(shopper["gift"]).to_be_hidden()
    assert await shopper["order"].inner_text() != first
    assert coupon(service, gift)["status"] == "redeemed"
    assert shopper.errors == []


async def test_without_a_code(shopper: Shopper) -> None:
    """Who has no code pays the cart; nothing is asked but the payment."""
    await shopper["pay"].click()
    await shopper.reads(receipt_code="none", receipt_discount="$0.00", receipt_total=CART)
    assert [url for url in shopper.asked if "/v1/" in url] == [f"{shopper.url}/v1/checkout"]


async def test_a_refused_code(shopper: Shopper, service: Service) -> None:
    """A code that can't be used says why, in words and by its stable code, and the cart costs what it did."""
    another = service.coupon()
    ok(service.checkout.post(f"/v1/coupons/lock/{another}", json={"userId": "another"}), 201)
    for code, words in (
        ("EXPIRED-1", "This code has expired. expired"),
        ("no code at all", "This code does not exist. Please check the spelling. coupon_not_found"),
        ("..", "This code does not exist. Please check the spelling. coupon_not_found"),
        (another, "Another customer is paying with this code now. Try again in a few minutes. coupon_locked"),
    ):
        await shopper["code"].fill(code)
        await shopper["code"].press("Enter")
        await shopper.reads(message_text=words)
    await expect(shopper["code"]).to_be_focused()
    await expect(shopper["held"]).to_be_hidden()
    await shopper.reads(total=CART, pay=f"Pay {CART}")
    await shopper.picture("checkout-refused")
    assert shopper.errors == []


async def test_a_code_that_must_be_locked(shopper: Shopper, service: Service) -> None:
    """A code whose book insists on a lock is locked, and only then asked what it gives."""
    code = service.coupon(discount=TWENTY, requireLock=True)
    await shopper.applies(code)
    await shopper.reads(discount="−$26.38")


async def test_the_cart_changes(shopper: Shopper, service: Service) -> None:
    """The discount follows the cart; a cart that is too small for the code can't be paid with it, and can without."""
    code = service.coupon(discount=TWENTY | {"minOrderValue": 100})
    await shopper.applies(code)
    await shopper.page.get_by_label("One less: Coffee beans").click()
    await shopper.reads(message_text="The cart's value is too low for this code. order_value_too_low", discount="…")
    await expect(shopper["pay"]).to_be_disabled()
    await shopper.page.get_by_label("How many: Porcelain cup").fill("10")
    await shopper.reads(value="$215.90", discount="−$43.18", total="$172.72", message_text="")
    await shopper["remove"].click()
    await shopper.reads(message_text=f"{code} is free again.", discount="$0.00", total="$215.90")
    assert coupon(service, code)["lock"] is None


async def test_walking_away(shopper: Shopper, service: Service) -> None:
    """Who walks away holds nothing any more: another gets the code at once; a new order begins. Where the service can't
    be asked, one still holds it."""
    code = service.coupon(discount=TWENTY)
    order = await shopper["order"].inner_text()
    await shopper.applies(code)
    await shopper.page.route("**/v1/coupons/unlock/*", lambda route: route.abort())
    await shopper["leave"].click()
    await shopper.reads(message_text="The server did not respond. no_answer", held_code=code)
    await shopper.page.unroute("**/v1/coupons/unlock/*")
    await shopper["leave"].click()
    await shopper.reads(message_text="You left without buying; nothing is held for you.", total=CART)
    assert await shopper["order"].inner_text() != order
    assert coupon(service, code)["status"] == "available"
    ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": "another"}), 201)


async def test_the_card_is_declined(shopper: Shopper, service: Service) -> None:
    """When the card is declined nothing is bought, and the code is held on, from now; paying then is as before."""
    code = service.coupon(discount=TWENTY)
    await shopper.applies(code)
    before = coupon(service, code)["lock"]["expiresAt"]
    await shopper["decline"].click()
    await shopper.reads(message_text="Your card was declined. You have not paid, and the code is still held for you.")
    assert coupon(service, code)["lock"]["expiresAt"] > before
    await shopper["pay"].click()
    await shopper.reads(receipt_total="$105.52")
    await shopper["again"].click()
    await shopper["decline"].click()
    await shopper.reads(message_text="Your card was declined. You have not paid.")


async def test_requests_and_answers(shopper: Shopper, service: Service) -> None:
    """What the page asked and was answered is there to read, and each request works as a command in a shell."""
    code = service.coupon(discount=TWENTY)
    await shopper["user"].fill("o'hara")
    await shopper.applies(code)
    await shopper["requests"].locator("> summary").click()
    shown = shopper["exchanges"].locator("> details")
    asked = [f"POST /v1/coupons/{path}" for path in ("validate", f"lock/{code}", "validate")]
    assert [text.rpartition(" ")[0] for text in await shown.locator("summary").all_inner_texts()] == asked
    await shown.nth(1).locator("summary").click()
    command, answer = await shown.nth(1).locator("pre").all_inner_texts()
    assert json.loads(answer)["userId"] == "o'hara"
    ran = await asyncio.create_subprocess_exec("bash", "-c", command, stdout=subprocess.PIPE)
    told, _ = await asyncio.wait_for(ran.communicate(), 30)
    assert json.loads(told)["lockToken"] == json.loads(answer)["lockToken"]
    await shopper.picture("checkout-requests")


async def test_codes_to_try(shopper: Shopper) -> None:
    """Each of the demo's codes that is to be refused is refused for the reason that stands beside it."""
    await shopper["demo-codes"].locator("summary").click()
    tried = 0
    for line in await shopper["codes"].locator("li").all():
        code, _, what = (await line.inner_text()).partition(" ")
        reason = what.rpartition(" ")[2]
        if "_" not in reason and reason != "expired":
            continue
        await line.get_by_role("button").click()
        await expect(shopper["code"]).to_have_value(code)
        if reason == "out_of_stock":
            continue
        await shopper["code"].press("Enter")
        await expect(shopper["message-text"]).to_contain_text(reason)
        tried += 1
    assert tried == 9


async def test_the_hold_ends(shopper: Shopper, service: Service) -> None:
    """When the hold is over the page says so, and has the code in its box again."""
    code = service.coupon(discount=TWENTY)
    await shopper.page.clock.install()
    await shopper.page.reload()
    await shopper.applies(code)
    await shopper.page.clock.fast_forward("05:00")
    await shopper.reads(message_text="The code is no longer reserved for you. Apply it again. lock_lost", total=CART)
    await expect(shopper["code"]).to_have_value(code)
    await shopper["apply"].click()
    await shopper.reads(held_code=code, total="$105.52")


async def test_a_double_click_buys_once(shopper: Shopper, service: Service) -> None:
    """Two clicks in the same moment are one payment."""
    code = new_code()
    book = service.book(code, discount=TWENTY, maxRedemptionsPerCode=None)
    sent = payments(shopper)
    await shopper.applies(code)
    await shopper["pay"].evaluate("button => { button.click(); button.click(); }")
    await shopper.reads(receipt_total="$105.52")
    assert len(sent) == 1
    assert service.stats(book)["redemptions"] == 1


async def test_a_lost_answer(shopper: Shopper, service: Service) -> None:
    """A payment whose answer is lost can't be changed or left; sent again, after a reload too, it is paid once."""
    code = new_code()
    book = service.book(code, discount=TWENTY, maxRedemptionsPerCode=None)
    sent = payments(shopper)

    async def lose(route: Route) -> None:
        await route.fetch()
        await route.abort()

    await shopper.page.route("**/v1/checkout", lose)
    await shopper.applies(code)
    await shopper["pay"].click()
    words = "It is not known yet whether you have paid. Try again: you pay only once."
    await shopper.reads(message_text=f"The server did not respond. {words} no_answer", pay="Try again")
    await expect(shopper["leave"]).to_be_disabled()
    await expect(shopper.page.get_by_label("One more: Coffee beans")).to_be_disabled()
    await shopper.page.unroute("**/v1/checkout")
    await shopper.page.reload()
    await shopper.reads(message_text=words)
    await shopper.picture("checkout-unknown")
    await shopper["pay"].click()
    await shopper.reads(receipt_total="$105.52")
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert service.stats(book)["redemptions"] == 1
    await shopper.page.reload()
    await shopper.reads(receipt_total="$105.52")


async def test_the_service_is_away(shopper: Shopper, service: Service) -> None:
    """A payment that was refused for a passing reason says that nothing was paid, and goes out again by one click."""
    sent = payments(shopper)

    async def refuse(route: Route) -> None:
        problem = {"code": "unavailable", "detail": "A part of the service is not reachable.", "status": 503}
        await route.fulfill(status=503, headers={"Retry-After": "2"}, json=problem)

    await shopper.page.route("**/v1/checkout", refuse)
    await shopper["pay"].click()
    await shopper.reads(message_text=re.compile(r"Nothing was changed\. .*You have not paid\. unavailable$"))
    await shopper.page.unroute("**/v1/checkout")
    await shopper.page.get_by_label("One less: Porcelain cup").click()
    await shopper["pay"].click()
    await shopper.reads(receipt_total="$117.40")
    assert [key for key, _ in sent] == [sent[0][0]] * 2


async def test_the_discount_is_not_known(shopper: Shopper, service: Service) -> None:
    """Where the service can't say what a code gives, the cart can't be paid until it has been asked again."""
    code = service.coupon(discount=TWENTY)
    await shopper.applies(code)
    await shopper.page.route("**/v1/coupons/validate", lambda route: route.abort())
    await shopper.page.get_by_label("One more: Porcelain cup").click()
    await shopper.reads(message_text="The server did not respond. no_answer", total="…")
    await expect(shopper["pay"]).to_be_disabled()
    await shopper.page.unroute("**/v1/coupons/validate")
    await shopper["retry"].click()
    await shopper.reads(message_text="", total="$117.12", pay="Pay $117.12")
    await expect(shopper["pay"]).to_be_focused()


async def test_a_reload(shopper: Shopper, service: Service) -> None:
    """A reload keeps the order, its cart and what is held."""
    code = service.coupon(discount=TWENTY)
    await shopper.page.get_by_label("One more: Coffee beans").click()
    await shopper.applies(code)
    order = await shopper["order"].inner_text()
    await shopper.page.reload()
    await shopper.reads(order=order, held_code=code, value="$163.90", discount="−$32.78")
    await expect(shopper["user"]).to_have_value(shopper.user)


async def test_a_wrong_key(shopper: Shopper) -> None:
    """With a key that is none the page says so and shows where it goes; with a right one it sells."""
    await shopper["key-box"].locator("summary").click()
    await shopper["key"].fill("wrong")
    await shopper["pay"].click()
    await shopper.reads(message_text=re.compile(r"^The API key is missing or invalid\. .* unauthenticated$"))
    await expect(shopper["key-box"]).to_have_attribute("open", "")
    await shopper["key"].fill("demo_checkout")
    await shopper["pay"].click()
    await shopper.reads(receipt_total=CART)


async def test_with_the_keyboard(shopper: Shopper, service: Service) -> None:
    """An order is placed without a mouse, and the focus is where one goes on."""
    code = service.coupon(discount=TWENTY)
    keyboard = shopper.page.keyboard
    await shopper["user"].focus()
    await keyboard.press("Tab")
    await expect(shopper["code"]).to_be_focused()
    await keyboard.type(code)
    await keyboard.press("Enter")
    await expect(shopper["pay"]).to_be_focused()
    await shopper.reads(total="$105.52")
    await keyboard.press("Enter")
    await expect(shopper["receipt-title"]).to_be_focused()
    await keyboard.press("Tab")
    await keyboard.press("Enter")
    await expect(shopper["cart-title"]).to_be_focused()


async def test_every_width(shopper: Shopper, service: Service) -> None:
    """From a telephone's 360 pixels to 1600 nothing is cut off, in light and dark, with the longest of codes."""
    gift, code = (f"{'W' * 48}{new_code()[2:]}" for _ in range(2))
    gifts = service.book(gift, discount={"type": "fixed", "value": 10})
    service.book(code, discount=TWENTY, giftBookId=gifts)
    await shopper.applies(code)

    await shopper["requests"].locator("> summary").click()
    await shopper["demo-codes"].evaluate("element => { element.open = true; }")

    async def look(state: str) -> None:
        for width, scheme in _LOOKS:
            await shopper.page.set_viewport_size({"width": width, "height": 800})
            await shopper.page.emulate_media(color_scheme=scheme)
            wide = await shopper.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, (state, width, wide)
            assert await findings(shopper.page) == [], (state, width, scheme)
            await shopper.picture(f"checkout-{state}-{width}-{scheme}")

    await look("held")
    await shopper["pay"].click()
    await shopper.reads(gift_code=gift)
    await look("gift")
