"""Bulk changes of codes: number, progress and Cancel."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.async_api import Route, expect

from tests.browser.operator import Operator
from tests.service_fixture import Service, new_code, ok

pytestmark = pytest.mark.asyncio(loop_scope="session")
CODES = 60


def _read_codes(service: Service, book: str) -> dict[str, dict[str, Any]]:
    rows = ok(service.manage.get(f"/v1/books/{book}/codes", params={"limit": 1000}))["items"]
    return {row["code"]: row for row in rows}


async def test_all_that_a_filter_shows(operator: Operator, service: Service) -> None:
    """A bulk change changes every code of the filter and no other; its question and its result have the number."""
    codes, used = [new_code() for _ in range(CODES)], new_code()
    book = service.book(*codes, used, name="Changed at once")
    ok(service.checkout.post(f"/v1/coupons/redeem/{used}", json={"userId": "bulk"}), 201)
    untouched = _read_codes(service, book)[used]
    await operator.open_page(f"book/{book}", "Changed at once")
    dialog = operator.page.get_by_role("dialog", name="Change codes", exact=True)
    now = datetime.now(UTC)
    for status, action, label, message, expected in (
        ("available", "off", "Switch off", "switched off", "inactive"),
        ("inactive", "on", "Switch on", "switched on", "available"),
        ("available", "until", "Set the end of", "given an end", "available"),
        ("available", "expire", "Expire", "expired", "expired"),
        ("expired", "endless", "Take the end from", "without an end of their own", "available"),
    ):
        await operator.page.get_by_label("Status").select_option(status)
        await operator.button(f"Change all that are {status}").click()
        if action not in {"off", "on"}:
            await dialog.get_by_label("What to do").select_option(action)
        if action == "until":
            await dialog.get_by_label("They end").fill(f"{now + timedelta(days=90):%Y-%m-%dT%H:%M:%S}")
        question = f"It touches {CODES} codes of Changed at once, all that are {status}."
        await operator.confirm("Change codes", question, f"{label} {CODES} codes")
        await operator.expect_message(f"{CODES} codes are {message}.")
        after = _read_codes(service, book)
        assert after.pop(used) == untouched
        assert {row["status"] for row in after.values()} == {expected}
        ends = [row["expiresAt"] for row in after.values()]
        if action == "until":
            assert all(end > now.isoformat() for end in ends)
        elif action != "expire":
            assert set(ends) == {None}


async def test_it_is_cancelled(operator: Operator, service: Service) -> None:
    """After Cancel no other code is changed; the result counts the changed codes and lists refusals with the reason."""
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
    await operator.open_page(f"book/{book}", "Stopped midway")
    await operator.button("Change all codes").click()
    await operator.confirm("Change codes", f"{CODES} codes", f"Switch off {CODES} codes")
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
