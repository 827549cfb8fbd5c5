"""Changing all codes that a filter shows: it says how many, shows how far it is, and can be stopped."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.async_api import Route, expect

from tests.browser.operator import Operator
from tests.service_fixture import Service, new_code, ok

pytestmark = pytest.mark.asyncio(loop_scope="session")
CODES = 60


def _codes(service: Service, book: str) -> list[dict[str, Any]]:
    return ok(service.manage.get(f"/v1/books/{book}/codes", params={"limit": 1000}))["items"]


async def test_all_that_a_filter_shows(operator: Operator, service: Service) -> None:
    """Every code of the filter is changed and no other; the question says how many, and what came of it is told."""
    codes, used = [new_code() for _ in range(CODES)], new_code()
    book = service.book(*codes, used, name="Changed at once")
    ok(service.checkout.post(f"/v1/coupons/redeem/{used}", json={"userId": "bulk"}), 201)
    await operator.goes(f"book/{book}", "Changed at once")
    await operator.page.get_by_label("Status").select_option("available")
    await operator.button("Change all that are available").click()
    words = f"It touches {CODES} codes of Changed at once, all that are available."
    await operator.confirms("Change codes", words, f"Switch off {CODES} codes")
    await operator.hears(f"{CODES} codes are switched off.")
    stats = service.stats(book)
    assert (stats["inactive"], stats["redeemed"], stats["available"]) == (CODES, 1, 0)

    await operator.page.get_by_label("Status").select_option("inactive")
    await operator.button("Change all that are inactive").click()
    await operator.confirms("Change codes", f"It touches {CODES} codes", f"Switch on {CODES} codes")
    await operator.hears(f"{CODES} codes are switched on.")
    assert service.stats(book)["available"] == CODES

    dialog = operator.page.get_by_role("dialog", name="Change codes", exact=True)
    end = (datetime.now(UTC) + timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%S")
    for action, label, done in (
        ("until", "Set the end of", "given an end"),
        ("expire", "Expire", "expired"),
        ("endless", "Take the end from", "without an end of their own"),
    ):
        status = "expired" if action == "endless" else "available"
        await operator.page.get_by_label("Status").select_option(status)
        await operator.button(f"Change all that are {status}").click()
        await dialog.get_by_label("What to do").select_option(action)
        if action == "until":
            await dialog.get_by_label("They end").fill(end)
        await operator.confirms("Change codes", f"{CODES} codes", f"{label} {CODES} codes")
        await operator.hears(f"{CODES} codes are {done}.")
        ends = {row["expiresAt"] for row in _codes(service, book) if row["code"] != used}
        if action == "endless":
            assert ends == {None}
        else:
            assert all(end is not None for end in ends)
            assert (min(ends) > datetime.now(UTC).isoformat()) is (action == "until")


async def test_it_is_cancelled(operator: Operator, service: Service) -> None:
    """Cancelled it begins no other code; what is done stays, and what was refused is listed with the reason."""
    codes = [new_code() for _ in range(CODES)]
    book = service.book(*codes, name="Stopped midway")
    bad, busy, through, held = codes[-1], codes[-2], 0, asyncio.Event()
    asked: list[str] = []

    async def change(route: Route) -> None:
        nonlocal through
        code = route.request.url.rpartition("/")[2]
        asked.append(code)
        if code == bad:
            return await route.fulfill(status=409, json={"code": "coupon_locked", "detail": "Somebody holds it."})
        if code == busy and asked.count(busy) == 1:
            return await route.fulfill(status=429, headers={"Retry-After": "1"}, json={"code": "rate_limited"})
        if through >= 20:
            await held.wait()
        through += 1
        return await route.continue_()

    await operator.page.route("**/v1/coupons/*", change)
    await operator.goes(f"book/{book}", "Stopped midway")
    await operator.button("Change all codes").click()
    await operator.confirms("Change codes", f"{CODES} codes", f"Switch off {CODES} codes")
    card = operator.page.get_by_role("region", name=f"Switch off {CODES} codes")
    await expect(card.get_by_role("progressbar")).to_be_visible()
    await expect(card.get_by_role("status")).to_have_text(f"21 of {CODES} codes")
    await operator.picture("console-bulk")
    await operator.button("Cancel").click()
    held.set()
    done = operator.page.get_by_role("region", name="Result")
    await expect(done).to_contain_text(f"24 codes are switched off, of {CODES}; then it was cancelled; 1 refused.")
    await expect(done).to_contain_text("Somebody holds it.")
    await expect(done.get_by_text(bad)).to_be_visible()
    assert asked.count(busy) == 2
    assert len(set(asked)) == 25
    assert service.stats(book)["inactive"] == 24
