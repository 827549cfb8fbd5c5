"""A sale in quarantine: responses, comparisons and a rebuild."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.harness.commands import scrip
from tests.harness.comparing import compare
from tests.harness.service_fixture import Service, new_code, new_id, ok, refused, shared_service
from tests.harness.waiting import until

_IN_QUARANTINE = "an event of it is in quarantine"
RECORDED = {"Prefer": "durability=recorded, wait=10"}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service of this file's own, since its record is damaged."""
    with shared_service() as service:
        yield service


def fetch(service: Service, sql: str, *args: Any) -> list[Any]:
    """Read rows of its Postgres."""
    return asyncio.run(service.fetch(sql, *args))


def poison(service: Service, *codes: str) -> None:
    """Make Postgres refuse redemptions of these codes."""
    for code in codes:
        fetch(service, "INSERT INTO single_uses SELECT workspace, $1, gen_random_uuid() FROM workspaces", code)


def heal(service: Service) -> None:
    """Clear the quarantine, as an operator does."""
    fetch(service, "DELETE FROM single_uses WHERE redemption_id NOT IN (SELECT redemption_id FROM redemptions)")
    fetch(service, "DELETE FROM rollbacks WHERE redemption_id NOT IN (SELECT redemption_id FROM redemptions)")
    fetch(service, "DELETE FROM quarantine")


def redeem(service: Service, code: str, user: str, order: str, **headers: str) -> Any:
    body = {"userId": user, "orderId": order}
    return service.checkout.post(f"/v1/coupons/redeem/{code}", json=body, headers=headers)


def test_an_event_in_quarantine_is_not_recorded(service: Service) -> None:
    """The first answer, its repeats, a batch and the rollback of the order are not `recorded`; other answers are."""
    good, bad, in_batch = new_code(), new_code(), new_code()
    service.book(good, bad, in_batch)
    poison(service, bad, in_batch)
    user, order = new_id(), new_id("order")
    for status in (201, 200, 200):
        response = redeem(service, bad, user, order, **RECORDED)
        assert (response.status_code, response.json()["durability"]) == (status, "fsynced")
        assert "Preference-Applied" not in response.headers
    assert redeem(service, good, new_id(), new_id("order"), **RECORDED).json()["durability"] == "recorded"
    ops = [{"op": "redeem", "code": in_batch, "userId": user}, {"op": "validate", "code": good}]
    batch = service.checkout.post("/v1/batch", json={"operations": ops}, headers=RECORDED)
    assert batch.json()["results"][0]["body"]["durability"] == "fsynced"
    assert "Preference-Applied" not in batch.headers
    assert ok(service.manage.post(f"/v1/orders/{order}/rollback", json={}, headers=RECORDED))["durability"] == "fsynced"
    heal(service)
    compare(service, repair=True)


def test_a_sale_in_quarantine_is_never_repaired_away(service: Service) -> None:
    """`reconcile --repair` leaves the code, its user, order and book, states why, and ends with 1; it repairs the
    book's other codes. After the quarantine is cleared, it repairs all."""
    bad, wrong = new_code(), new_code()
    book = service.book(bad, wrong)
    poison(service, bad)
    user, order = new_id(), new_id("order")
    assert redeem(service, bad, user, order).status_code == 201
    until(lambda: fetch(service, "SELECT FROM quarantine"))
    with service.redis() as redis:
        (name,) = [key for key in redis.scan_iter("*:d:*", count=5000) if redis.hexists(key, wrong)]
        redis.hset(name, wrong, redis.hget(name, wrong) + "!")
    outcome, differences = compare(service, repair=True)
    left = {
        (difference.thing.split(" ")[0], difference.unsafe) for difference, state in differences if state == "found"
    }
    assert left == {(kind, _IN_QUARANTINE) for kind in ("code", "user", "order", "book")}
    assert outcome.left == dict.fromkeys(("uses", "redemptions", "orders", "user_counts", "book_counts"), 1)
    assert [difference.classes for difference, state in differences if state == "mended"] == [("free_missing",)]
    refused(redeem(service, bad, new_id(), new_id("order")), 409, "coupon_redeemed")
    assert _run_command(service, "reconcile", "--repair") == 1
    heal(service)
    assert compare(service, repair=True)[0].left == {}
    assert compare(service)[0].differing == {}
    assert service.stats(book)["available"] == 2


def test_a_rebuild_blocks_what_is_in_quarantine(service: Service) -> None:
    """After a rebuild a quarantined, rolled back sale's code is inactive, no difference; healed, a repair frees it."""
    bad, good = new_code(), new_code()
    book = service.book(bad, good)
    poison(service, bad)
    user, order = new_id(), new_id("order")
    assert redeem(service, bad, user, order).status_code == 201
    until(lambda: fetch(service, "SELECT FROM quarantine"))
    ok(service.manage.post(f"/v1/orders/{order}/rollback", json={}))
    until(lambda: fetch(service, "SELECT FROM rollbacks WHERE code = $1", bad))
    assert _run_command(service, "rebuild") == 0
    until(service.run.ready)
    kept = fetch(service, "SELECT reason FROM quarantine WHERE strpos(encode(d, 'escape'), $1) > 0 ORDER BY seq", bad)
    assert [row["reason"] for row in kept] == [
        "UniqueViolationError single_uses_pkey", "redemption_missing",
    ]  # fmt: skip
    refused(redeem(service, bad, user, order), 409, "coupon_inactive")
    assert ok(service.manage.patch(f"/v1/coupons/{bad}", json={"status": "inactive"}))["status"] == "inactive"
    assert ok(service.manage.patch(f"/v1/coupons/{bad}", json={"status": "active"}))["status"] == "inactive"
    assert redeem(service, good, user, order).status_code == 201
    stats = service.stats(book)
    assert (stats["available"], stats["inactive"], stats["redeemed"]) == (0, 1, 1)
    assert compare(service, repair=True)[0].differing == {}
    refused(redeem(service, bad, user, order), 409, "coupon_inactive")
    heal(service)
    assert compare(service, repair=True)[0].left == {}
    assert compare(service)[0].differing == {}
    assert redeem(service, bad, user, new_id("order")).status_code == 201


def _run_command(service: Service, *words: str) -> int:
    """Run `scrip` with these words on the service; return the exit code."""
    return scrip(*words, **service.urls).exit_code
