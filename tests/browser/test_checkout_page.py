"""The mock checkout in Chromium: an order is paid once, also after errors."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Request, Route, expect

from service.server.embedded.demo_data import EXPIRED_AT
from tests.browser.watched import Look, Watched
from tests.harness.service_fixture import Service, new_code, new_id, ok
from tests.harness.waiting import PATIENCE_S

pytestmark = pytest.mark.asyncio(loop_scope="session")

CART = "131.90 USD"
TOO_LOW = "The cart's value is too low for this code."
TWENTY = {"type": "percentage", "value": 20}


class Shopper(Watched):
    user = ""

    async def open_page(self) -> None:
        await self.page.goto(f"{self.url}/checkout")
        self.user = new_id()
        await self["user"].fill(self.user)

    async def apply(self, code: str) -> None:
        """Apply a code, and wait until the page holds it and has its discount."""
        await self["code"].fill(code)
        await self["apply"].click()
        await expect(self["held-code"]).to_have_text(code)
        await expect(self["pay"]).to_be_enabled()

    async def add(self, code: str, first: str, second: str) -> None:
        """Apply another code beside the one that is held; wait until the page holds both, in this order."""
        await self["add"].click()
        await expect(self["code"]).to_be_focused()
        await self["code"].fill(code)
        await self["apply"].click()
        await self.assert_texts(held_code=first, held_card_code=second)
        await expect(self["pay"]).to_be_enabled()

    async def assert_texts(self, **texts: str | re.Pattern[str]) -> None:
        """Wait until these elements have these texts."""
        for name, text in texts.items():
            await expect(self[name.replace("_", "-")]).to_have_text(text)


@pytest_asyncio.fixture(loop_scope="session")
async def shopper(browser: Browser, service: Service) -> AsyncIterator[Shopper]:
    """A new user's page, without errors."""
    page = await browser.new_page(viewport={"width": 1280, "height": 900})
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    shopper = Shopper(page, service.run.url)
    await shopper.open_page()
    yield shopper
    shopper.assert_no_errors()


@pytest_asyncio.fixture(loop_scope="session")
async def shop(service: Service, shopper: Shopper) -> Service:
    """A workspace whose orders take two codes, and whose key the shopper's page has."""
    shop = service.make_workspace(new_id("shop"), "live")
    ok(shop.admin.patch("/v1/workspace", json={"couponsPerOrder": 2}))
    await shopper["key-box"].locator("summary").click()
    await shopper["key"].fill(f"{shop.workspace}_admin")
    return shop


def make_codes(shop: Service, value: str) -> tuple[str, str]:
    """Make a coupon of 20 %, and a card with this value."""
    coupon, card = new_code(), new_code()
    shop.book(coupon, discount=TWENTY, client=shop.admin)
    shop.book(card, discount={"type": "balance", "value": value}, client=shop.admin)
    return coupon, card


def read_left(shop: Service, card: str) -> tuple[str, str, str]:
    """Read what is spent, held and available of a card."""
    balance = ok(shop.admin.get(f"/v1/coupons/{card}"))["balance"]
    return balance["spent"], balance["held"], balance["available"]


def watch_payments(shopper: Shopper) -> list[tuple[str, str | None]]:
    """Return a list that gets the Idempotency-Key and body of each payment from now on."""
    seen: list[tuple[str, str | None]] = []

    def sent(request: Request) -> None:
        if request.url.endswith("/v1/checkout"):
            seen.append((request.headers["idempotency-key"], request.post_data))

    shopper.page.on("request", sent)
    return seen


def read_coupon(service: Service, code: str) -> dict[str, Any]:
    return ok(service.checkout.get(f"/v1/coupons/{code}"))


async def test_a_purchase_and_its_gift(shopper: Shopper, service: Service) -> None:
    """The page holds an applied code, the cart costs less, and one click uses the gift card on the next order. An
    order that is cancelled gives its code back."""
    gift, code = new_code().replace("T-", "GIFT-"), new_code().replace("T-", "SUMMER-")
    gifts = service.book(gift, name="Gift cards", discount={"type": "fixed", "value": 10})
    service.book(code, discount=TWENTY, giftBookId=gifts)
    await shopper.assert_texts(value=CART, discount="0.00 USD", total=CART)

    await shopper.apply(code)
    await shopper.assert_texts(
        discount="−26.38 USD", total="105.52 USD", pay="Pay 105.52 USD", held_time=re.compile(r"^[45]:\d\d$")
    )
    before = await shopper["held-time"].inner_text()
    await expect(shopper["held-time"]).not_to_have_text(before)
    assert read_coupon(service, code)["lock"]["userId"] == shopper.user
    await shopper.picture("checkout-held")

    await shopper["pay"].click()
    await shopper.assert_texts(
        receipt_code=code, receipt_discount="−26.38 USD", receipt_total="105.52 USD", gift_code=gift
    )
    await expect(shopper["receipt-title"]).to_be_focused()
    assert read_coupon(service, code)["status"] == "redeemed"
    assert read_coupon(service, gift)["userId"] == shopper.user
    await shopper["copy"].click()
    await expect(shopper["message-text"]).to_have_text(f"{gift} is copied.")
    assert await shopper.page.evaluate("navigator.clipboard.readText()") == gift
    await shopper.assert_texts(gift_worth="It takes 10.00 USD off an order like this one.")
    await shopper.picture("checkout-receipt")

    first = await shopper["order"].inner_text()
    await shopper["use-gift"].click()
    await shopper.assert_texts(held_code=gift, discount="−10.00 USD", total="121.90 USD", pay="Pay 121.90 USD")
    await shopper["pay"].click()
    await shopper.assert_texts(receipt_code=gift, receipt_total="121.90 USD")
    await expect(shopper["gift"]).to_be_hidden()
    assert await shopper["order"].inner_text() != first
    assert read_coupon(service, gift)["status"] == "redeemed"
    await shopper["cancel"].click()
    await shopper.assert_texts(
        receipt_title="Your order is cancelled",
        receipt_paid="Paid back",
        message_text=f"The order is cancelled: {gift} can be used again.",
    )
    await expect(shopper["again"]).to_be_focused()
    assert read_coupon(service, gift)["status"] == "assigned"
    await shopper["again"].click()
    await shopper["code"].fill(gift)
    await shopper["pay"].click()
    await shopper.assert_texts(
        held_code=gift, pay="Pay 121.90 USD", message_text=f"{gift} is applied: you save 10.00 USD. Press Pay to buy."
    )
    assert shopper.errors == []


async def test_a_refused_code(shopper: Shopper, service: Service) -> None:
    """The page shows a refusal's text and stable code, and the cart costs the same; Pay then asks whether to pay
    without the code."""
    another = service.coupon()
    budget = {"amount": 1, "per": "book", "period": "lifetime"}
    ok(service.checkout.post(f"/v1/coupons/lock/{another}", json={"userId": "another"}), 201)
    for code, message in (
        ("EXPIRED-1", f"This code has expired. It was valid until {EXPIRED_AT[:10]} 00:00:00 UTC. expired"),
        ("BIG-500", f"{TOO_LOW} It is for carts from 500.00 USD: 368.10 USD is missing. order_value_too_low"),
        ("no code at all", "This code does not exist. Please check the spelling. coupon_not_found"),
        ("..", "This code does not exist. Please check the spelling. coupon_not_found"),
        (
            service.coupon(discount=TWENTY, budgets=[budget]),
            "This offer has given all the discount that it may give. budget_exhausted",
        ),
        (another, "Another customer is paying with this code now. Try again in a few minutes. coupon_locked"),
    ):
        await shopper["code"].fill(code)
        await shopper["code"].press("Enter")
        await shopper.assert_texts(message_text=message)
        await expect(shopper["code-form"].locator("+ #message")).to_be_visible()
    await expect(shopper["code"]).to_have_attribute("aria-invalid", "true")
    await expect(shopper["code"]).to_be_focused()
    await expect(shopper["held"]).to_be_hidden()
    await shopper.assert_texts(total=CART, pay="Pay")
    await shopper["pay"].click()
    await shopper.assert_texts(message_text=f"{message[: -len('coupon_locked')]}You have not paid. coupon_locked")
    await shopper.picture("checkout-refused")
    await shopper.page.get_by_role("button", name="Pay without the code").click()
    await shopper.assert_texts(receipt_code="none", receipt_total=CART)
    assert all(error.startswith("Failed to load resource: the server responded with") for error in shopper.errors)


async def test_a_code_of_another_currency(shopper: Shopper, service: Service) -> None:
    """A code in another currency is refused with its currency; after that is chosen, it is applied and paid."""
    code = new_code()
    service.book(code, discount={"type": "fixed", "value": 5, "currency": "EUR"})
    await shopper["code"].fill(code)
    await shopper["apply"].click()
    await shopper.assert_texts(message_text=re.compile("It is for orders in EUR."))
    await shopper.page.get_by_label("Currency").select_option("EUR")
    await expect(shopper["articles"]).to_contain_text("32.00 EUR each")
    await shopper.apply(code)
    await expect(shopper["currency"]).to_be_disabled()
    await shopper.page.reload()
    await shopper.assert_texts(pay="Pay 126.90 EUR")
    await shopper["pay"].click()
    await shopper.assert_texts(receipt_total="126.90 EUR")


async def test_a_card_pays_a_part(shopper: Shopper, service: Service) -> None:
    """A gift card pays as much as it has; the receipt says what is left on it, until the order is cancelled."""
    code = new_code()
    service.book(code, discount={"type": "balance", "value": 150})
    await shopper.apply(code)
    await shopper.assert_texts(
        saving="Payment by gift card", discount="−131.90 USD", total="0.00 USD", pay="Pay 0.00 USD"
    )
    await shopper["pay"].click()
    await shopper.assert_texts(
        receipt_saving="Paid by gift card", receipt_discount="−131.90 USD", receipt_left="18.10 USD"
    )
    await shopper.picture("checkout-card")
    await shopper["again"].click()
    await shopper.apply(code)
    await shopper.assert_texts(discount="−18.10 USD", total="113.80 USD")
    await shopper["pay"].click()
    await shopper.assert_texts(receipt_total="113.80 USD", receipt_left="0.00 USD")
    await shopper["cancel"].click()
    await shopper.assert_texts(receipt_title="Your order is cancelled")
    await expect(shopper["receipt-left"]).to_be_hidden()
    assert read_coupon(service, code)["balance"]["available"] == "18.10"


async def test_a_coupon_and_a_card(shopper: Shopper, shop: Service) -> None:
    """The coupon is for the whole cart and the card for what that leaves, whichever is applied first, also after a
    change of the cart; the receipt has what each paid and what is left on the card. Cancelled, both are given back."""
    coupon, card = make_codes(shop, "150.00")
    await shopper.apply(card)
    await shopper.assert_texts(saving="Payment by gift card", discount="−131.90 USD", add="Add a coupon")
    await shopper.add(coupon, coupon, card)
    both = {"discount": "−26.38 USD", "by_card": "−105.52 USD", "total": "0.00 USD", "pay": "Pay 0.00 USD"}
    await shopper.assert_texts(saving="Discount", by_card_of="Payment by gift card", **both)
    await expect(shopper["pay"]).to_be_focused()
    assert read_left(shop, card) == ("0.00", "105.52", "44.48")
    await shopper.picture("checkout-both")
    await shopper.page.get_by_label("How many: Porcelain cup").fill("6")
    await shopper.assert_texts(value="189.90 USD", discount="−37.98 USD", by_card="−150.00 USD", total="1.92 USD")
    await shopper.page.reload()
    await shopper.assert_texts(by_card="−150.00 USD", pay="Pay 1.92 USD")
    await shopper["remove"].click()
    await shopper.assert_texts(held_code=card, saving="Payment by gift card", discount="−150.00 USD", total="39.90 USD")
    await expect(shopper["held-card"]).to_be_hidden()
    await shopper.add(coupon, coupon, card)
    await shopper["remove-card"].click()
    await shopper.assert_texts(held_code=coupon, total="151.92 USD")
    assert read_left(shop, card) == ("0.00", "0.00", "150.00")
    await shopper.page.get_by_label("How many: Porcelain cup").fill("2")
    await shopper.assert_texts(total="105.52 USD")
    await shopper.add(card, coupon, card)
    await shopper["decline"].click()
    await shopper.assert_texts(message_text=re.compile("You have not paid, and both codes are still held for you.$"))
    await shopper.assert_fits("checkout-both", ((360, "dark"), (1600, "light")))
    await shopper["pay"].click()
    await shopper.assert_texts(
        receipt_code=f"{coupon} and {card}", receipt_saving="Discount", receipt_discount="−26.38 USD",
        receipt_by_card_of="Paid by gift card", receipt_by_card="−105.52 USD", receipt_left="44.48 USD",
        receipt_total="0.00 USD",
    )  # fmt: skip
    assert read_left(shop, card) == ("105.52", "0.00", "44.48")
    await shopper.picture("checkout-both-receipt")
    await shopper["cancel"].click()
    await shopper.assert_texts(message_text=f"The order is cancelled: {coupon} and {card} can be used again.")
    assert read_left(shop, card) == ("0.00", "0.00", "150.00")


async def test_two_of_a_kind(shopper: Shopper, shop: Service) -> None:
    """An order takes one coupon and one card: another one is not held. Walking away frees both."""
    coupon, card = make_codes(shop, "50.00")
    others = make_codes(shop, "50.00")
    await shopper.apply(coupon)
    await shopper["add"].click()
    for code, message in ((coupon, f"{coupon} is applied already."), (others[0], "This order has a coupon already")):
        await shopper["code"].fill(code.lower())
        await shopper["apply"].click()
        await shopper.assert_texts(message_text=re.compile(f"^{message}"), held_code=coupon, total="105.52 USD")
    await shopper["code"].fill(card)
    await shopper["apply"].click()
    await shopper.assert_texts(held_card_code=card, total="55.52 USD")
    await shopper["remove"].click()
    await shopper["add"].click()
    await shopper["code"].fill(others[1])
    await shopper["apply"].click()
    await shopper.assert_texts(message_text="This order has a gift card already: remove it first.", held_code=card)
    await shopper["code"].fill(coupon)
    await shopper["apply"].click()
    await shopper.assert_texts(held_code=coupon, held_card_code=card)
    await shopper["leave"].click()
    await shopper.assert_texts(message_text="You left without buying. No code is held for you.", total=CART)
    for code in (coupon, card, *others):
        assert ok(shop.admin.get(f"/v1/coupons/{code}"))["lock"] is None


async def test_the_coupon_is_refused_after_the_card_has_paid(shopper: Shopper, shop: Service) -> None:
    """The card's redemption is rolled back, also if the answer to that is lost, and nothing is paid. Applied again,
    both pay under another key."""
    coupon, card = make_codes(shop, "60.00")
    await shopper.apply(coupon)
    await shopper.add(card, coupon, card)
    ok(shop.admin.patch(f"/v1/coupons/{coupon}", json={"status": "inactive"}))

    async def lose(route: Route) -> None:
        await route.fetch()
        await route.abort()

    await shopper.page.route("**/rollback", lose)
    await shopper["pay"].click()
    await shopper.assert_texts(
        message_text=re.compile("Your gift card has paid 60.00 USD, and not got it back yet. Try again."),
        pay="Try again",
    )
    await shopper.page.unroute("**/rollback")
    await shopper.page.reload()
    await shopper["pay"].click()
    await shopper.assert_texts(
        message_text=re.compile("You have not paid. Your gift card has its money back: apply it again."),
        held_code=coupon,
    )
    assert read_left(shop, card) == ("0.00", "0.00", "60.00")
    ok(shop.admin.patch(f"/v1/coupons/{coupon}", json={"status": "active"}))
    await shopper["remove"].click()
    await shopper.apply(coupon)
    await shopper.add(card, coupon, card)
    await shopper["pay"].click()
    await shopper.assert_texts(receipt_total="45.52 USD", receipt_left="0.00 USD")
    assert read_left(shop, card) == ("60.00", "0.00", "0.00")


async def test_an_order_that_takes_one_code(shopper: Shopper, shop: Service) -> None:
    """Where an order takes one code, two are refused at the payment, and the card has its money back; it then pays
    alone. A card whose lock is lost pays nothing, and neither does the coupon."""
    ok(shop.admin.patch("/v1/workspace", json={"couponsPerOrder": 1}))
    coupon, card = make_codes(shop, "60.00")
    await shopper.apply(coupon)
    await shopper.add(card, coupon, card)
    await shopper["pay"].click()
    await shopper.assert_texts(message_text=re.compile("money back: this shop takes one code for an order."))
    assert read_left(shop, card) == ("0.00", "0.00", "60.00")
    ok(shop.admin.patch("/v1/workspace", json={"couponsPerOrder": 2}))
    await shopper["apply"].click()
    await shopper.assert_texts(held_card_code=card)
    token = ok(shop.admin.post(f"/v1/coupons/lock/{card}", json=await read_holder(shopper)))["lockToken"]
    assert shop.admin.post(f"/v1/coupons/unlock/{card}", json={"lockToken": token}).status_code == 204
    await shopper["pay"].click()
    await shopper.assert_texts(message_text=re.compile("no longer held for you"), held_code=coupon)
    await expect(shopper["code"]).to_have_value(card)
    assert ok(shop.admin.get(f"/v1/coupons/{coupon}"))["redemptions"] == 0


async def read_holder(shopper: Shopper) -> dict[str, str]:
    return {"userId": shopper.user, "orderId": await shopper["order"].inner_text()}


async def test_lost_answers_of_both(shopper: Shopper, shop: Service) -> None:
    """A payment of which an answer is lost, the card's or the coupon's, is sent again, and each pays once."""
    coupon, card = make_codes(shop, "60.00")

    async def lose(route: Route) -> None:
        await route.fetch()
        await route.abort()

    await shopper.apply(coupon)
    await shopper.add(card, coupon, card)
    for part in ("**/v1/coupons/redeem/*", "**/v1/checkout"):
        await shopper.page.route(part, lose)
        await shopper["pay"].click()
        await shopper.assert_texts(message_text=re.compile("We don't know yet whether you have paid"), pay="Try again")
        await shopper.page.unroute(part)
        await shopper.page.reload()
    await shopper["pay"].click()
    await shopper.assert_texts(receipt_total="45.52 USD", receipt_by_card="−60.00 USD")
    assert [ok(shop.admin.get(f"/v1/coupons/{code}"))["redemptions"] for code in (coupon, card)] == [1, 1]
    assert read_left(shop, card) == ("60.00", "0.00", "0.00")


async def test_the_cart_changes(shopper: Shopper, service: Service) -> None:
    """The discount follows the cart; a cart below the code's least value can be paid without the code alone. By
    keyboard the arrows change a quantity, and Tab goes to the next one."""
    code = service.coupon(discount=TWENTY | {"minOrderValue": 100})
    await shopper.apply(code)
    await shopper.page.get_by_label("One less: Coffee beans").click()
    await shopper.assert_texts(
        message_text=f"{TOO_LOW} It is for carts from 100.00 USD: 0.10 USD is missing. order_value_too_low",
        discount="…",
    )
    await expect(shopper["pay"]).to_be_disabled()
    cups = shopper.page.get_by_label("How many: Porcelain cup")
    await cups.fill("9")
    await cups.press("ArrowUp")
    await cups.press("Tab")
    await expect(shopper.page.get_by_label("How many: Filter papers")).to_be_focused()
    await shopper.assert_texts(value="215.90 USD", discount="−43.18 USD", total="172.72 USD", message_text="")
    await shopper["remove"].click()
    await shopper.assert_texts(message_text=f"{code} is available again.", discount="0.00 USD", total="215.90 USD")
    assert read_coupon(service, code)["lock"] is None


async def test_walking_away(shopper: Shopper, service: Service) -> None:
    """Leaving unlocks the code at once and begins a new order; without a response the page still holds the code."""
    code = service.coupon(discount=TWENTY)
    order = await shopper["order"].inner_text()
    await shopper.apply(code)
    await shopper.page.route("**/v1/coupons/unlock/*", lambda route: route.abort())
    await shopper["leave"].click()
    await shopper.assert_texts(message_text="The server did not respond. no_answer", held_code=code)
    await shopper.page.unroute("**/v1/coupons/unlock/*")
    await shopper["leave"].click()
    await shopper.assert_texts(message_text="You left without buying. No code is held for you.", total=CART)
    assert await shopper["order"].inner_text() != order
    assert read_coupon(service, code)["status"] == "available"
    ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": "another"}), 201)


async def test_the_card_is_declined(shopper: Shopper, service: Service) -> None:
    """A declined card buys nothing and extends the lock; paying then is as before. The book requires a lock."""
    code = service.coupon(discount=TWENTY, requireLock=True)
    await shopper.apply(code)
    before = read_coupon(service, code)["lock"]["expiresAt"]
    await shopper["decline"].click()
    await shopper.assert_texts(
        message_text="Your card was declined. You have not paid, and the code is still held for you."
    )
    assert read_coupon(service, code)["lock"]["expiresAt"] > before
    await shopper["pay"].click()
    await shopper.assert_texts(receipt_total="105.52 USD")
    await shopper["again"].click()
    await shopper["decline"].click()
    await shopper.assert_texts(message_text="Your card was declined. You have not paid.")


async def test_requests_and_answers(shopper: Shopper, service: Service) -> None:
    """The page lists its requests with their responses, and each request works as a command in a shell."""
    code = service.coupon(discount=TWENTY)
    await shopper["user"].fill("o'hara")
    await shopper.apply(code)
    await shopper["requests"].locator("> summary").click()
    exchanges = shopper["exchanges"].locator("> details")
    requests = [f"POST /v1/coupons/lock/{code}"]
    assert [text.rpartition(" ")[0] for text in await exchanges.locator("summary").all_inner_texts()] == requests
    await exchanges.nth(0).locator("summary").click()
    command, answer = await exchanges.nth(0).locator("pre").all_inner_texts()
    assert json.loads(answer)["userId"] == "o'hara"
    ran = await asyncio.create_subprocess_exec("bash", "-c", command, stdout=subprocess.PIPE)
    output, _ = await asyncio.wait_for(ran.communicate(), PATIENCE_S)
    assert json.loads(output)["lockToken"] == json.loads(answer)["lockToken"]
    await shopper.picture("checkout-requests")


async def test_codes_to_try(shopper: Shopper) -> None:
    """Each of the demo's refused codes is refused for the reason beside it."""
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
    """After the lock expires the page says so, and its box has the code again."""
    code = service.coupon(discount=TWENTY)
    await shopper.page.clock.install()
    await shopper.page.reload()
    await shopper.apply(code)
    await shopper.page.clock.fast_forward("05:00")
    await shopper.assert_texts(message_text="The code is no longer held for you. Apply it again. lock_lost", total=CART)
    await expect(shopper["code"]).to_have_value(code)
    await shopper["apply"].click()
    await shopper.assert_texts(held_code=code, total="105.52 USD")


async def test_a_double_click_buys_once(shopper: Shopper, service: Service) -> None:
    """Two clicks at once are one payment."""
    code = new_code()
    book = service.book(code, discount=TWENTY, maxRedemptionsPerCode=None)
    sent = watch_payments(shopper)
    await shopper.apply(code)
    await shopper["pay"].evaluate("button => { button.click(); button.click(); }")
    await shopper.assert_texts(receipt_total="105.52 USD")
    assert len(sent) == 1
    assert service.stats(book)["redemptions"] == 1


async def test_a_lost_answer(shopper: Shopper, service: Service) -> None:
    """A payment without a response can't be changed or left; sent again after a reload, it is paid once."""
    code = new_code()
    book = service.book(code, discount=TWENTY, maxRedemptionsPerCode=None)
    sent = watch_payments(shopper)

    async def lose(route: Route) -> None:
        await route.fetch()
        await route.abort()

    await shopper.page.route("**/v1/checkout", lose)
    await shopper.apply(code)
    await shopper["pay"].click()
    unknown = "We don't know yet whether you have paid. Try again: you pay only once."
    await shopper.assert_texts(message_text=f"The server did not respond. {unknown} no_answer", pay="Try again")
    await expect(shopper["leave"]).to_be_disabled()
    await expect(shopper.page.get_by_label("One more: Coffee beans")).to_be_disabled()
    await shopper.page.unroute("**/v1/checkout")
    await shopper.page.reload()
    await shopper.assert_texts(message_text=unknown)
    await shopper.picture("checkout-unknown")
    await shopper["pay"].click()
    await shopper.assert_texts(receipt_total="105.52 USD")
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert service.stats(book)["redemptions"] == 1
    await shopper.page.reload()
    await shopper.assert_texts(receipt_total="105.52 USD")


async def test_the_service_is_away(shopper: Shopper, service: Service) -> None:
    """After a 503 the page says that nothing was paid, and one click sends the payment again under its key."""
    sent = watch_payments(shopper)

    async def refuse(route: Route) -> None:
        problem = {"code": "unavailable", "detail": "A part of the service is not reachable.", "status": 503}
        await route.fulfill(status=503, headers={"Retry-After": "2"}, json=problem)

    await shopper.page.route("**/v1/checkout", refuse)
    await shopper["pay"].click()
    await shopper.assert_texts(message_text=re.compile(r"Nothing was changed\. .*You have not paid\. unavailable$"))
    await shopper.page.unroute("**/v1/checkout")
    await shopper.page.get_by_label("One less: Porcelain cup").click()
    await shopper["pay"].click()
    await shopper.assert_texts(receipt_total="117.40 USD")
    assert [key for key, _ in sent] == [sent[0][0]] * 2


async def test_the_discount_is_not_known(shopper: Shopper, service: Service) -> None:
    """While the discount is unknown the cart can't be paid; a retry fetches it."""
    code = service.coupon(discount=TWENTY)
    await shopper.apply(code)
    await shopper.page.route("**/v1/coupons/lock/*", lambda route: route.abort())
    await shopper.page.get_by_label("One more: Porcelain cup").click()
    await shopper.assert_texts(message_text="The server did not respond. no_answer", total="…")
    await expect(shopper["pay"]).to_be_disabled()
    await shopper.page.unroute("**/v1/coupons/lock/*")
    await shopper["retry"].click()
    await shopper.assert_texts(message_text="", total="117.12 USD", pay="Pay 117.12 USD")
    await expect(shopper["pay"]).to_be_focused()


async def test_a_reload(shopper: Shopper, service: Service) -> None:
    """A reload keeps the order, its cart and its code."""
    code = service.coupon(discount=TWENTY)
    await shopper.page.get_by_label("One more: Coffee beans").click()
    await shopper.apply(code)
    order = await shopper["order"].inner_text()
    await shopper.page.reload()
    await shopper.assert_texts(order=order, held_code=code, value="163.90 USD", discount="−32.78 USD")
    await expect(shopper["user"]).to_have_value(shopper.user)


async def test_a_wrong_key(shopper: Shopper) -> None:
    """With an invalid key the page shows the error and the key's box; with a valid one it sells without a code."""
    await shopper["key-box"].locator("summary").click()
    await shopper["key"].fill("wrong")
    await shopper["pay"].click()
    await shopper.assert_texts(message_text=re.compile(r"^The API key is missing or invalid\. .* unauthenticated$"))
    await expect(shopper["key-box"]).to_have_attribute("open", "")
    await shopper["key"].fill("demo_checkout")
    await shopper["pay"].click()
    await shopper.assert_texts(receipt_code="none", receipt_discount="0.00 USD", receipt_total=CART)


async def test_with_the_keyboard(shopper: Shopper, service: Service) -> None:
    """The keyboard alone places an order, and the focus moves to the next step."""
    code = service.coupon(discount=TWENTY)
    keyboard = shopper.page.keyboard
    await shopper["user"].focus()
    await keyboard.press("Tab")
    await expect(shopper["code"]).to_be_focused()
    await keyboard.type(code)
    await keyboard.press("Enter")
    await expect(shopper["pay"]).to_be_focused()
    await shopper.assert_texts(total="105.52 USD")
    await keyboard.press("Enter")
    await expect(shopper["receipt-title"]).to_be_focused()
    await keyboard.press("Tab")
    await keyboard.press("Enter")
    await expect(shopper["cart-title"]).to_be_focused()


async def test_every_width(shopper: Shopper, service: Service) -> None:
    """From 360 to 1600 pixels nothing is cut off, in light and dark, with the longest codes; axe reports nothing."""
    gift, code = (f"{'W' * 48}{new_code()[2:]}" for _ in range(2))
    gifts = service.book(gift, discount={"type": "fixed", "value": 10})
    service.book(code, discount=TWENTY, giftBookId=gifts)
    await shopper.apply(code)

    await shopper["requests"].locator("> summary").click()
    await shopper["demo-codes"].evaluate("element => { element.open = true; }")

    looks: tuple[Look, ...] = ((360, "light"), (800, "light"), (1600, "dark"))
    await shopper.assert_fits("checkout-held", looks)
    await shopper["pay"].click()
    await shopper.assert_texts(gift_code=gift)
    await shopper.assert_fits("checkout-gift", looks)
