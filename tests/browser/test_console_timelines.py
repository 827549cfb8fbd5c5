"""Timelines of the console in Chromium: searching, a code's history, and its holds."""

import re

import pytest
from playwright.async_api import Route, expect

from tests.browser.operator import Operator
from tests.harness.service_fixture import Service, new_code, new_id, ok
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.asyncio(loop_scope="session")

# `answer()` answers the next search for this code at once, without a wait for the network.
_HOLD = """
code => {
  const real = window.fetch;
  const matches = { ok: true, status: 200, json: async () => ({ matches: [{ kind: "code", name: code }] }) };
  window.asked = new Promise((sent) => {
    window.fetch = (path, options) => path.endsWith(`/search?q=${code}`)
      ? new Promise((resolve) => { window.answer = () => resolve(matches); sent(); })
      : real(path, options);
  });
}
"""


async def test_a_search_while_a_page_loads(operator: Operator) -> None:
    """Who types the next search while a page loads goes on in the search field."""
    page, held = operator.page, list[Route]()

    def hold(route: Route) -> None:
        held.append(route)

    await page.route("**/console/data/search?*", hold)
    await operator.search("no first name")
    await wait_until(lambda: held, "the request")
    await operator["search"].fill("no second name")
    await held[0].continue_()
    await expect(page.get_by_text("Nothing found:")).to_be_visible()
    await page.evaluate("new Promise((done) => setTimeout(done))")  # the page's own tasks end
    await expect(operator["search"]).to_be_focused()
    await page.unroute("**/console/data/search?*")
    await page.keyboard.press("Enter")
    await expect(operator.heading("Search: no second name")).to_be_visible()


async def test_a_timeline(operator: Operator, service: Service) -> None:
    """A search opens the timeline of a code, redemption, user, key, request or order; an order is rolled back there."""
    page, code, user, order = operator.page, new_code(), new_id(), new_id("order")
    service.book(code, discount={"type": "fixed", "value": 3})
    body, key = {"userId": user, "orderId": order, "orderValue": 20}, new_id("once")
    path, once = f"/v1/coupons/redeem/{code}", {"Idempotency-Key": key}
    response = service.checkout.post(path, json=body, headers=once)
    made, request = ok(response, 201)["redemptionId"], response.headers["X-Request-Id"]
    await page.keyboard.press("/")
    await page.keyboard.type(code.lower())
    await page.keyboard.press("Enter")
    await expect(operator.heading(code)).to_be_focused()
    await expect(page.get_by_text("Redis and Postgres agree.")).to_be_visible()
    await expect(page.get_by_text("coupon_redeemed")).to_be_visible()
    await expect(page.get_by_text(": 20.00 USD, 3.00 USD off")).to_be_visible()
    at = page.locator(".timeline time").first
    await expect(at).to_have_text(re.compile(r"^[0-9-]{10} [0-9:]{8} UTC$"))
    await expect(at).to_have_attribute("title", await at.inner_text())
    await expect(page.get_by_text("No, it would be refused:")).to_be_visible()
    await expect(page.get_by_text("The coupon has already been used. Tell the customer.")).to_be_visible()
    await operator.assert_keeps_focus(page.locator(".versus").get_by_role("link", name=user).first)
    await operator.picture("console-timeline")
    for name, title in ((made, code), (user, user), (key, key), (request, request), (order, order)):
        await operator.search(name)
        await expect(operator.heading(title)).to_be_visible()
        await expect(page.locator(".timeline li").first).to_contain_text("Redeemed")
        await expect(page.get_by_text("searched for")).to_have_count(int(name == made))
    await operator.button("Roll back the order").click()
    await page.get_by_label("Reason").fill("sent back")
    await operator.confirm("Roll back 1 redemption of this order?", "its use back", "Roll back 1 redemption")
    await expect(page.get_by_text("“sent back”")).to_be_visible()
    await operator.open_page(f"code/{code}", code)
    await expect(page.get_by_text("Yes, for any user. 3.00 USD off, 97.00 USD to pay.")).to_be_visible()
    titled = new_id("Summer")
    service.book(name=f"{titled} 2026")
    await operator.search(titled.lower())
    await expect(operator.heading(f"{titled} 2026")).to_be_visible()
    await operator.search("nothing has this name")
    await expect(page.get_by_text("Nothing found:")).to_be_visible()
    await operator.open_page("code/NONE-7F3K", "Not found")


async def test_a_refused_request(operator: Operator, service: Service) -> None:
    """A search for the id of a refused request opens its refusal."""
    request = new_id("request")
    service.checkout.post("/v1/coupons/redeem/NONE-7F3K", json={"userId": "ann"}, headers={"X-Request-Id": request})
    await wait_until(lambda: ok(service.operate.get("/v1/ops/requests", params={"requestId": request}))["items"])
    await operator.search(request)
    await expect(operator.heading(request)).to_be_visible()
    await expect(operator.page.get_by_role("row").last).to_contain_text("coupon_not_found")


async def test_a_held_code(operator: Operator, service: Service) -> None:
    """A hold is released without the shopper's token, and the code is then assigned to a user. The timeline has the
    present hold until it ends, and who switched the code off."""
    page, code, holder, user = operator.page, new_code(), new_id(), new_id()
    service.book(code, name="Held")
    body = {"userId": holder, "orderId": new_id("order")}
    ok(service.checkout.post(f"/v1/coupons/lock/{code}", json=body), 201)
    await operator.open_page(f"code/{code}", code)
    await expect(page.get_by_role("link", name="Held", exact=True)).to_be_visible()
    await expect(operator.button("Assign to a user")).to_have_count(0)
    events = page.locator(".timeline li")
    await expect(events.filter(has_text="Hold ends")).to_contain_text(holder)
    await expect(events.filter(has_text="Held by")).to_contain_text(f"{holder} for {body['orderId']}")
    both = page.locator(".versus .pairs > :nth-child(-n + 2)")
    await expect(both).to_have_text(["Status without holds", "available"] * 2)
    await operator.button("Release the hold").click()
    await operator.confirm("Release the hold", f"{holder} no longer holds {code}", "Release the hold")
    await expect(page.get_by_text("no one", exact=True)).to_be_visible()
    assert ok(service.manage.get(f"/v1/coupons/{code}"))["lock"] is None
    await expect(events.filter(has_text="Held by")).to_have_count(0)
    await operator.button("Switch off").click()
    await operator.confirm("Switch off", "No one can lock", "Switch off")
    await expect(events.first).to_contain_text("Switched off by the key admin")
    await operator.button("Set the end").click()
    await page.get_by_label("Expires").fill("2020-01-01T00:00:00")
    await operator.confirm("Set the end", "Empty: with its book.", "Set the end")
    await expect(page.get_by_text("expired 2020-01-01 00:00:00 UTC").first).to_be_visible()
    await operator.button("Set the end").click()
    await page.get_by_label("Expires").fill("")
    await operator.confirm("Set the end", "Empty: with its book.", "Set the end")
    await operator.button("Switch on").click()
    await operator.confirm("Switch on", "can be used again", "Switch on")
    await operator.button("Assign to a user").click()
    await page.get_by_role("dialog").get_by_label("User").fill(user)
    await operator.confirm("Assign to a user", "Only this user", "Assign to a user")
    await expect(operator.button("Unassign")).to_be_visible()
    assert ok(service.manage.get(f"/v1/coupons/{code}"))["userId"] == user


async def test_a_card(operator: Operator, service: Service) -> None:
    """A card is credited and closed on its page; the timeline has each change with the amount, who made it, and what
    was left. An amount of nothing changes nothing, and a credit whose answer is lost is given once."""
    page, code, user = operator.page, new_code(), new_id()
    service.book(code, name="Cards", discount={"type": "balance", "value": "1250.00"})
    body = {"userId": user, "orderId": new_id("order"), "orderValue": "40.00"}
    made = ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 201)["redemptionId"]
    rollback = {"reason": "sent back"}
    ok(service.manage.post(f"/v1/redemptions/{made}/rollback", json=rollback))
    await operator.open_page(f"code/{code}", code)
    events = page.locator(".timeline li")
    await expect(events).to_contain_text(
        [
            "The card got 40.00 USD back; 1,250.00 USD left on it. “sent back”",
            f"by {user} for {body['orderId']}: 40.00 USD, 40.00 USD paid by card; 1,210.00 USD left on it",
            "Added by upload or generation",
        ]
    )
    await operator.button("Credit the card").click()
    dialog = page.get_by_role("dialog")
    go = dialog.get_by_role("button", name="Credit the card")
    await dialog.get_by_label("Amount (USD)").fill("0")
    await dialog.get_by_label("Reason").fill("goodwill")
    await go.click()
    await expect(dialog.get_by_label("Amount (USD)")).to_have_accessible_description(re.compile("Must be more than 0"))
    await dialog.get_by_label("Amount (USD)").fill("5,50")
    lost = re.compile("/credit$")

    async def lose(route: Route) -> None:
        await route.fetch()
        await route.abort()

    await page.route(lost, lose)
    await go.click()
    await expect(dialog.get_by_role("alert")).to_contain_text("did not respond")
    await page.unroute(lost)
    await operator.confirm("Credit the card", "added to what is left", "Credit the card")
    await expect(page.locator(".versus")).to_contain_text(re.compile(r"Left on the card\s*1,255\.50 USD"))
    await expect(events.first).to_contain_text("by the key admin with 5.50 USD; 1,255.50 USD left on it")
    await expect(events.first).to_contain_text("“goodwill”")
    await operator.picture("console-card")
    await operator.button("Close the card").click()
    await operator.confirm("Close the card", "1,255.50 USD are taken off the card", "Close the card")
    await expect(events.first).to_contain_text("by the key admin, which took 1,255.50 USD; 0.00 USD left on it")
    await expect(operator.button("Close the card")).to_have_count(0)
    balance = ok(service.manage.get(f"/v1/coupons/{code}"))["balance"]
    assert (balance["credited"], balance["closed"], balance["available"]) == ("5.50", "1255.50", "0.00")
    await operator.assert_fits("console-card", ((360, "dark"), (1600, "light")))


async def test_each_hold_is_released_by_itself(operator: Operator, service: Service) -> None:
    """Of several holds of a code each has a button that releases it alone."""
    page, code, users = operator.page, new_code(), [new_id(), new_id()]
    service.book(code, name="Held twice", maxRedemptionsPerCode=None)
    for user in users:
        ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": user}), 201)
    await operator.open_page(f"code/{code}", code)
    events = page.locator(".timeline li")
    await expect(events.filter(has_text="Hold ends")).to_have_count(2)
    await expect(operator.button("Release the hold")).to_have_count(0)
    await operator.picture("console-holds")
    await operator.button(f"Release the hold of {users[1]}").click()
    await operator.confirm("Release the hold", f"{users[1]} no longer holds {code}", "Release the hold")
    await expect(events.filter(has_text="Hold ends")).to_have_count(1)
    await expect(events.filter(has_text=re.compile("Held by"))).to_contain_text(users[0])
    await expect(operator.button("Release the hold")).to_be_visible()


async def test_a_second_search_wins(operator: Operator, service: Service) -> None:
    """A response to the first search that arrives after a second search began does not change the page."""
    page, code, user = operator.page, new_code(), new_id()
    service.book(code)
    ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": user}), 201)
    await page.evaluate(_HOLD, code)
    await operator.search(code)
    await page.evaluate("asked")
    await page.evaluate("user => { answer(); location.hash = `#/search/${user}` }", user)
    await expect(operator.heading(user)).to_be_visible()
    await expect(page.locator(".timeline li").first).to_contain_text("Redeemed")
    assert page.url.endswith(f"#/user/{user}")
