"""A test workspace's clock moves its windows, lists and files, and no other workspace's.

tests/lua/test_clock.py has windows and locks to the millisecond.
"""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from service.server.in_postgres.workspace_rows import patch_workspace, read_workspace, workspace_named
from tests.harness.service_fixture import Service, new_code, new_id, ok, refused
from tests.harness.waiting import until

_WINDOW = {"validFrom": "2040-01-01T00:00:00Z", "validUntil": "2040-02-01T00:00:00Z"}
_WITHIN = "2040-01-15T00:00:00Z"


class Lab:
    def __init__(self, service: Service, name: str) -> None:
        self.service, self.name = service, name
        self.client = service.make_workspace(name, "test").admin

    def set(self, now: str | None, **headers: str) -> str:
        """Set the clock; return its time."""
        return ok(self.client.post("/v1/test/clock", json={"now": now}, headers=headers))["now"]

    def coupon(self, **fields: Any) -> str:
        """Make a coupon in a book of its own; return its code."""
        return self.service.coupon(client=self.client, **fields)

    def read(self, code: str) -> dict[str, Any]:
        return ok(self.client.get(f"/v1/coupons/{code}"))

    def send(self, verb: str, code: str, **body: Any) -> httpx.Response:
        return self.client.post(f"/v1/coupons/{verb}/{code}", json=body)


@pytest.fixture(scope="module")
def shared_lab(service: Service) -> Lab:
    return Lab(service, f"lab-{uuid4().hex}")


@pytest.fixture
def lab(shared_lab: Lab) -> Iterator[Lab]:
    """The test workspace, on the real time before and after."""
    yield shared_lab
    shared_lab.set(None)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize("now", ["1970-01-01T00:00:00Z", "9899-12-31T23:59:59.999Z"])
def test_the_ends_of_time(lab: Lab, now: str) -> None:
    """At both ends of time a code is assigned, locked for longest, redeemed, rolled back and recorded."""
    longest = 2**31 - 1
    code, user, order = lab.coupon(lockSeconds=longest, maxLockSeconds=longest), new_id(), new_id("order")
    at = lab.set(now)
    assert _time(at) == _time(now)
    assigned = ok(lab.send("assign", code, userId=user), 201)
    assert assigned["assignedAt"][:4] in {at[:4], "9900"}
    held = ok(lab.send("lock", code, userId=user, orderId=order), 201)
    assert timedelta(0) <= _time(held["expiresAt"]) - _time(at) - timedelta(seconds=longest) < timedelta(minutes=10)
    made = ok(lab.send("redeem", code, userId=user, orderId=order, lockToken=held["lockToken"]), 201)
    ok(lab.client.post(f"/v1/redemptions/{made['redemptionId']}/rollback", json={"restore": False}))
    history = lab.client.get(f"/v1/coupons/{code}/redemptions")
    assert "Scrip-Lag-Seconds" not in history.headers
    (past,) = ok(history)["items"]
    assert past["redeemedAt"] == made["redeemedAt"]
    assert ok(lab.client.get("/v1/ops/consistency"))["state"] == "open"


def test_lists_and_files_go_by_the_clock(lab: Lab) -> None:
    """Lists, exports, a user's coupons and their number show what has expired by the workspace's clock."""
    early, late, user = new_code(), new_code(), new_id()
    book = lab.service.book(early, late, client=lab.client, validUntil=_WINDOW["validUntil"])
    ok(lab.client.patch(f"/v1/coupons/{early}", json={"expiresAt": _WINDOW["validFrom"]}))
    for code in (early, late):
        ok(lab.send("assign", code, userId=user), 201)

    def read_all() -> list[Any]:
        listed = {item["code"]: item["status"] for item in ok(lab.client.get(f"/v1/books/{book}/codes"))["items"]}
        file = csv.DictReader(io.StringIO(lab.client.get(f"/v1/books/{book}/codes.csv").text))
        assert {row["code"]: row["status"] for row in file} == listed
        expired = ok(lab.client.get(f"/v1/users/{user}/coupons", params={"status": "expired"}))["items"]
        assert {item["code"] for item in expired} == {code for code in listed if listed[code] == "expired"}
        of_status = ok(lab.client.get(f"/v1/books/{book}/codes", params={"status": "expired"}))["items"]
        assert [item["code"] for item in of_status] == [code for code in listed if listed[code] == "expired"]
        return [listed[early], listed[late], ok(lab.client.get(f"/v1/users/{user}"))["coupons"]]

    assert read_all() == ["assigned", "assigned", 2]
    lab.set(_WITHIN)
    assert read_all() == ["expired", "assigned", 1]
    lab.set(_WINDOW["validUntil"])
    assert read_all() == ["expired", "expired", 0]
    lab.set(None)
    assert read_all() == ["assigned", "assigned", 2]


def test_another_workspace_has_its_own_time(service: Service, lab: Lab) -> None:
    """A workspace's moved clock moves no other's, live or test."""
    lab.set(_WITHIN)
    ok(lab.send("redeem", lab.coupon(**_WINDOW), userId="ann"), 201)
    for client in (service.admin, service.trial):
        code = new_code()
        book = service.book(code, client=client, **_WINDOW)
        refused(client.post(f"/v1/coupons/redeem/{code}", json={"userId": "ann"}), 409, "not_started")
        lab.set("2041-01-01T00:00:00Z")
        assert [item["status"] for item in ok(client.get(f"/v1/books/{book}/codes"))["items"]] == ["available"]


@pytest.mark.parametrize("now", [None, _WITHIN])
async def test_a_live_workspace_has_no_clock(service: Service, now: str | None) -> None:
    """In a live workspace the clock can't be set, by a request or in Postgres."""
    problem = refused(service.operate.post("/v1/test/clock", json={"now": now}), 403, "forbidden")
    assert problem["detail"] == "Only test workspaces have a clock: `scrip workspaces create NAME --test` makes one."
    with pytest.raises(asyncpg.CheckViolationError):
        await service.fetch("UPDATE workspaces SET clock_offset_ms = 1 WHERE name = 'demo'")
    ((moved,),) = await service.fetch("SELECT count(*) FROM workspaces WHERE mode = 'live' AND clock_offset_ms <> 0")
    assert moved == 0


def test_repeats_go_by_the_real_time(lab: Lab) -> None:
    """An Idempotency-Key stays used after any move; a repeated move gets its first answer and moves nothing."""
    code, key, moved = lab.coupon(), uuid4().hex, uuid4().hex
    body, path = {"userId": new_id()}, f"/v1/coupons/redeem/{code}"
    first = lab.client.post(path, json=body, headers={"Idempotency-Key": key})
    at = lab.set("2050-01-01T00:00:00.123456Z", **{"Idempotency-Key": moved})
    assert at == "2050-01-01T00:00:00.123Z"
    again = lab.client.post(path, json=body, headers={"Idempotency-Key": key})
    assert (again.content, again.headers["Idempotency-Replayed"]) == (first.content, "true")
    lab.set(_WITHIN)
    assert lab.set("2050-01-01T00:00:00.123456Z", **{"Idempotency-Key": moved}) == at
    ok(lab.send("redeem", lab.coupon(**_WINDOW), userId="ann"), 201)


def test_no_time_is_the_real_time(lab: Lab) -> None:
    """Without a time, or with null, the clock is the server's."""
    lab.set(_WITHIN)
    for body in ({}, {"now": None}):
        before = datetime.now(UTC)
        at = _time(ok(lab.client.post("/v1/test/clock", json=body))["now"])
        assert before - timedelta(milliseconds=1) <= at <= datetime.now(UTC)
    refused(lab.send("redeem", lab.coupon(**_WINDOW), userId="ann"), 409, "not_started")


async def test_a_clock_that_was_never_projected(lab: Lab) -> None:
    """If the process that moved the clock died after the write to Postgres, the worker projects it to Redis."""
    code = lab.coupon(**_WINDOW)
    async with asyncpg.create_pool(lab.service.run.facts["databaseUrl"], min_size=1, max_size=1) as pool:
        number = await workspace_named(pool, lab.name)
        assert number is not None
        partition = (await read_workspace(pool, number)).partition
        ahead = _time(_WITHIN) - datetime.now(UTC)
        await patch_workspace(pool, number, partition, {"clock_offset_ms": ahead // timedelta(milliseconds=1)})
    until(lambda: lab.read(code)["status"] == "available" and lab.send("redeem", code, userId="ann").status_code == 201)


def test_a_rebuilt_redis_has_the_clock(patient: Service) -> None:
    """An emptied Redis is rebuilt with the clock as it was set."""
    lab = Lab(patient, f"lab-{uuid4().hex}")
    code = lab.coupon(**_WINDOW)
    refused(lab.send("redeem", code, userId="ann"), 409, "not_started")
    lab.set(_WITHIN)
    with patient.redis() as client:
        client.flushall()
    until(lambda: lab.client.get(f"/v1/coupons/{code}").is_success)
    assert ok(lab.send("redeem", code, userId="ann"), 201)["redeemedAt"][:10] == _WITHIN[:10]
