"""Twenty tasks of a day. Each makes what it needs over the API, begins to count, and ends when the page has the
result."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from playwright.async_api import expect
from uuid_utils.compat import uuid7

from tests.browser.tasks.hands import Hands
from tests.integration.requests_table import PAUSED_CHANGE
from tests.service_fixture import Service, new_code, new_id, ok, refused

Task = Callable[[Hands, Service], Awaitable[None]]
UPLOADED = 200_000
WRONG = 20
"""Lines of the upload that have no code."""
CHANGED = 20_000
"""Codes of the book whose codes are all switched off."""
_POLL_S, _MOST_POLLS = 0.1, 600
_RECONCILING = "SELECT FROM jobs WHERE status = 'running' AND kind = 'reconcile'"
_TIERS = [
    {"from": "100.00", "type": "percentage", "value": "10"},
    {"from": "200.00", "type": "fixed", "value": "30.00"},
]


def redeemed(service: Service, code: str, **body: str) -> str:
    """Redeem a code for an order; return the order."""
    body = {"userId": new_id(), "orderId": new_id("order")} | body
    ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body | {"orderValue": 100}), 201)
    service.recorded()
    return body["orderId"]


def held(service: Service, code: str) -> str:
    """Hold a code for a user; return the user."""
    body = {"userId": new_id(), "orderId": new_id("order")}
    ok(service.checkout.post(f"/v1/coupons/lock/{code}", json=body), 201)
    return body["userId"]


def write_table(file: Path) -> None:
    """Write a file as a shop's spreadsheet exports it: semicolons, names of columns of its own, some wrong lines."""
    prefix = new_id("u").upper()
    lines = [f"{prefix}-{number};ann" for number in range(UPLOADED)]
    file.write_text("\r\n".join(["Gutschein;Kunde", *lines, *[f"=no code {number};" for number in range(WRONG)]]))


async def make_a_tiered_book(hands: Hands, service: Service) -> None:
    name, page, button = new_id("book"), hands.page, hands.operator.button
    hands.begin()
    await hands.open_page("Books")
    await hands.press(button("New book"))
    await hands.write(page.get_by_label("Name", exact=True), name)
    await hands.choose(page.get_by_label("Kind"), "Tiers by order value")
    first, second = page.get_by_role("group", name="Tier 1"), page.get_by_role("group", name="Tier 2")
    await hands.write(first.get_by_label("From order value"), "100")
    await hands.write(first.get_by_label("Discount"), "10")
    await hands.press(button("Add a tier"))
    await hands.write(second.get_by_label("From order value"), "200")
    await hands.write(second.get_by_label("Discount"), "30")
    await hands.choose(second.get_by_label("Unit"), "amount off")
    await hands.submit(button("Create book"))
    await expect(hands.operator.heading(name)).to_be_visible()
    (book,) = ok(service.manage.get("/v1/books", params={"q": name}))["items"]
    assert book["discount"]["tiers"] == _TIERS


async def upload_a_spreadsheet(hands: Hands, service: Service) -> None:
    book, page, button = service.book(name=(name := new_id("book"))), hands.page, hands.operator.button
    with tempfile.TemporaryDirectory() as folder:
        write_table(file := Path(folder) / "codes.csv")
        hands.begin()
        await hands.search(name)
        await hands.press(button("Upload"))
        await hands.pick(page.get_by_label("A file"), file)
        await hands.press(button("Check file"))
        await hands.choose(page.get_by_label("Gutschein"), "Code")
        await hands.choose(page.get_by_label("Kunde"), "User")
        async with page.expect_download() as saving:
            await hands.press(button("Save the rejected lines"))
        assert (await (await saving.value).path()).read_text().count("=no code") == WRONG
        await hands.press(button(f"Upload {UPLOADED:,} codes"))
        await hands.operator.expect_message(f"{UPLOADED:,} codes added")
    assert service.stats(book)["codes"] == UPLOADED


async def find_an_order(hands: Hands, service: Service) -> None:
    order = redeemed(service, service.coupon())
    hands.begin()
    await hands.search(order)
    await expect(hands.operator.heading(order)).to_be_visible()
    await expect(hands.page.locator(".timeline li").first).to_contain_text("Redeemed")


async def release_a_hold(hands: Hands, service: Service) -> None:
    held(service, code := service.coupon())
    hands.begin()
    await hands.search(code)
    await hands.press(hands.operator.button("Release the hold"))
    await hands.submit(hands.page.get_by_role("dialog").get_by_role("button", name="Release the hold"))
    await expect(hands.page.get_by_text("no one", exact=True)).to_be_visible()
    assert ok(service.manage.get(f"/v1/coupons/{code}"))["lock"] is None


async def roll_an_order_back(hands: Hands, service: Service) -> None:
    order = redeemed(service, code := service.coupon())
    hands.begin()
    await hands.search(order)
    await hands.press(hands.operator.button("Roll back the order"))
    await hands.write(hands.page.get_by_label("Reason"), "sent back")
    await hands.submit(hands.operator.button("Roll back 1 redemption"))
    await expect(hands.page.get_by_text("“sent back”")).to_be_visible()
    assert ok(service.manage.get(f"/v1/coupons/{code}"))["redemptions"] == 0


async def pause_a_book(hands: Hands, service: Service) -> None:
    book = service.book(new_code(), name=(name := new_id("book")))
    hands.begin()
    await hands.search(name)
    await hands.press(hands.operator.button("Pause"))
    await hands.submit(hands.operator.button("Pause book"))
    await expect(hands.page.get_by_text("paused", exact=True)).to_be_visible()
    assert ok(service.manage.get(f"/v1/books/{book}"))["status"] == "inactive"


async def switch_all_codes_off(hands: Hands, service: Service) -> None:
    prefix = new_code()
    codes = [f"{prefix}-{number}" for number in range(CHANGED)]
    book = service.book(name=(name := new_id("book")))
    ok(service.manage.post(f"/v1/books/{book}/codes", content="\n".join(codes), headers={"Content-Type": "text/plain"}))
    hands.begin()
    await hands.search(name)
    await hands.press(hands.operator.button("Change all codes"))
    await hands.submit(hands.operator.button(f"Switch off {CHANGED:,} codes"))
    await hands.operator.expect_message(f"{CHANGED:,} codes are switched off.")
    assert service.stats(book)["inactive"] == CHANGED


async def rotate_a_key(hands: Hands, service: Service) -> None:
    made = ok(service.operate.post("/v1/keys", json={"name": new_id("key"), "scopes": ["checkout"]}), 201)
    hands.begin()
    await hands.open_page("Keys")
    await hands.press(hands.operator.button(f"Rotate {made['name']}"))
    await hands.submit(hands.operator.button("Rotate key"))
    await expect(hands.page.locator("output.code")).not_to_have_text(made["secret"])
    await hands.press(hands.operator.button("Close"))


async def create_a_key(hands: Hands, service: Service) -> None:
    name, page = new_id("key"), hands.page
    hands.begin()
    await hands.open_page("Keys")
    await hands.press(hands.operator.button("New key"))
    await hands.write(page.get_by_label("Name", exact=True), name)
    await hands.tick(page.get_by_label("checkout", exact=True))
    await hands.submit(hands.operator.button("Create key"))
    secret = await page.locator("output.code").inner_text()
    await hands.press(hands.operator.button("Close"))
    await expect(hands.operator.row(name)).to_be_visible()
    assert service.client(secret).get(f"/v1/coupons/{new_code()}").status_code == 404


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


async def explain_a_refusal(hands: Hands, service: Service) -> None:
    held(service, code := service.coupon())
    user, page = new_id(), hands.page
    refused(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": user}), 409, "coupon_locked")
    hands.begin()
    await hands.search(code)
    await hands.write(page.get_by_label("User", exact=True), user)
    await hands.submit(hands.operator.button("Check"))
    await expect(page.get_by_text("coupon_locked")).to_be_visible()
    await expect(page.get_by_text("Another checkout has locked the last use of this coupon.")).to_be_visible()


async def find_a_book_by_name(hands: Hands, service: Service) -> None:
    part = new_id("part")
    service.book(name=f"Summer {part} 2026")
    hands.begin()
    await hands.search(part)
    await expect(hands.operator.heading(f"Summer {part} 2026")).to_be_visible()


async def find_a_code_by_prefix(hands: Hands, service: Service) -> None:
    code = service.coupon()
    hands.begin()
    await hands.search(code[:-4].lower())
    await expect(hands.operator.heading(code)).to_be_visible()


async def assign_a_code(hands: Hands, service: Service) -> None:
    code, user = service.coupon(), new_id()
    hands.begin()
    await hands.search(code)
    await hands.press(hands.operator.button("Assign to a user"))
    await hands.write(hands.page.get_by_role("dialog").get_by_label("User"), user)
    await hands.submit(hands.page.get_by_role("dialog").get_by_role("button", name="Assign to a user"))
    await expect(hands.operator.button("Unassign")).to_be_visible()
    assert ok(service.manage.get(f"/v1/coupons/{code}"))["userId"] == user


async def take_a_code_back(hands: Hands, service: Service) -> None:
    code, user = service.coupon(), new_id()
    ok(service.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": user}), 201)
    hands.begin()
    await hands.search(code)
    await hands.press(hands.operator.button("Unassign"))
    await hands.submit(hands.page.get_by_role("dialog").get_by_role("button", name="Unassign"))
    await expect(hands.operator.button("Assign to a user")).to_be_visible()
    assert ok(service.manage.get(f"/v1/coupons/{code}"))["userId"] is None


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


async def resume_a_job(hands: Hands, service: Service) -> None:
    book = service.book(new_code(), name=(name := new_id("book")))
    await service.fetch(PAUSED_CHANGE, book, str(uuid7()))
    hands.begin()
    await hands.open_page("Jobs")
    await hands.press(hands.operator.row(name).get_by_role("button", name="Resume"))
    await expect(hands.operator.row(name)).to_contain_text("done")


async def list_redemptions_of_a_user(hands: Hands, service: Service) -> None:
    user, codes = new_id(), [service.coupon() for _ in range(3)]
    for code in codes[:2]:
        redeemed(service, code, userId=user)
    redeemed(service, codes[2])
    hands.begin()
    await hands.open_page("Redemptions")
    await hands.write(hands.page.get_by_label("User", exact=True), user)
    await hands.submit(hands.operator.button("Filter"))
    await expect(hands.page.locator("tbody tr")).to_have_count(2)
    await expect(hands.operator.row(user)).to_have_count(2)


async def reconcile_now(hands: Hands, service: Service) -> None:
    for _ in range(_MOST_POLLS):
        if not await service.fetch(_RECONCILING):
            break
        await asyncio.sleep(_POLL_S)
    hands.begin()
    await hands.press(hands.operator.button("Reconcile now"))
    await hands.submit(hands.operator.button("Reconcile"))
    await hands.operator.expect_message("The comparison has begun")


async def check_out_with_a_code(hands: Hands, service: Service) -> None:
    code, page = service.coupon(discount={"type": "fixed", "value": 3}), hands.page
    await page.goto(f"{service.run.url}/checkout")
    await expect(hands.operator["total"]).not_to_be_empty()
    hands.begin()
    await hands.write(hands.operator["code"], code)
    await hands.submit(hands.operator.button("Apply"))
    await expect(hands.operator["held-code"]).to_have_text(code)
    await hands.press(hands.operator["pay"])
    await expect(hands.operator["receipt-code"]).to_have_text(code)
    await expect(hands.operator["receipt-discount"]).to_contain_text("3.00")


TASKS: dict[str, Task] = {
    "Make a book with two tiers": make_a_tiered_book,
    "Upload 200,000 codes of a semicolon CSV, and save its 20 wrong lines": upload_a_spreadsheet,
    "Find an order": find_an_order,
    "Release a hold": release_a_hold,
    "Roll an order back": roll_an_order_back,
    "Pause a book": pause_a_book,
    "Switch off all 20,000 codes of a book": switch_all_codes_off,
    "Rotate an API key": rotate_a_key,
    "Create an API key": create_a_key,
    "Send a webhook's delivery again": send_a_delivery_again,
    "Explain a 409": explain_a_refusal,
    "Find a book by a part of its name": find_a_book_by_name,
    "Find a code by its beginning": find_a_code_by_prefix,
    "Assign a code to a user": assign_a_code,
    "Take an assigned code back": take_a_code_back,
    "See who changed a book": see_who_changed_a_book,
    "Resume a paused job": resume_a_job,
    "List the redemptions of a user": list_redemptions_of_a_user,
    "Reconcile now": reconcile_now,
    "Check out with a code": check_out_with_a_code,
}
