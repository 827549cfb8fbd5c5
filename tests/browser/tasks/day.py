"""Tasks of an operator's day. Each makes what it needs over the API, begins, and ends when the page has the
result."""

from collections.abc import Awaitable, Callable

from playwright.async_api import expect

from tests.browser.tasks.hands import Hands
from tests.service_fixture import Service, new_id, ok

Task = Callable[[Hands, Service], Awaitable[None]]


def held(service: Service, code: str) -> str:
    """Hold a code for a user; return the user."""
    body = {"userId": new_id(), "orderId": new_id("order")}
    ok(service.checkout.post(f"/v1/coupons/lock/{code}", json=body), 201)
    return body["userId"]


async def release_a_hold(hands: Hands, service: Service) -> None:
    held(service, code := service.coupon())
    hands.begin()
    await hands.search(code)
    await hands.press(hands.operator.button("Release the hold"))
    await hands.submit(hands.page.get_by_role("dialog").get_by_role("button", name="Release the hold"))
    await expect(hands.page.get_by_text("no one", exact=True)).to_be_visible()
    assert ok(service.manage.get(f"/v1/coupons/{code}"))["lock"] is None


async def send_a_delivery_again(hands: Hands, service: Service) -> None:
    body = {
        "url": f"{service.run.url}/console/receiver/204",
        "events": ["coupon.redeemed"],
        "description": new_id("hook"),
    }
    hook = ok(service.operate.post("/v1/webhooks", json=body), 201)["webhookId"]
    event = service.operate.post(f"/v1/webhooks/{hook}/test", json={}).json()["eventId"]
    hands.begin()
    await hands.open_page("Webhooks")
    await hands.press(hands.operator.row(body["description"]).get_by_role("link"))
    await hands.press(hands.operator.button(f"Send {event} again"))
    await hands.operator.expect_message(f"{event} is sent again.")
    assert service.operate.delete(f"/v1/webhooks/{hook}").status_code == 204


async def assign_a_code(hands: Hands, service: Service) -> None:
    code, user = service.coupon(), new_id()
    hands.begin()
    await hands.search(code)
    await hands.press(hands.operator.button("Assign to a user"))
    await hands.write(hands.page.get_by_role("dialog").get_by_label("User"), user)
    await hands.submit(hands.page.get_by_role("dialog").get_by_role("button", name="Assign to a user"))
    await expect(hands.operator.button("Unassign")).to_be_visible()
    assert ok(service.manage.get(f"/v1/coupons/{code}"))["userId"] == user


async def see_who_changed_a_book(hands: Hands, service: Service) -> None:
    book = service.book(name=(name := new_id("book")))
    ok(service.manage.patch(f"/v1/books/{book}", json={"maxRedemptions": 7}))
    hands.begin()
    await hands.open_page("Audit")
    await hands.choose(hands.page.get_by_label("Action"), "book.changed")
    await hands.submit(hands.operator.button("Filter"))
    await expect(hands.operator.row("session.began")).to_have_count(0)
    await expect(hands.operator.row(name)).to_contain_text("maxRedemptions: null → 7")
    await expect(hands.operator.row(name)).to_contain_text("manage")
