"""A worker records nothing past a gap. How workers die, sleep, come back and meet is in test_faults.py."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from tests.harness.service_fixture import Service, new_code, ok, refused
from tests.harness.waiting import PATIENCE_S
from tests.lab.faults.recorded import until_recorded, wait


async def test_a_gap_in_the_outbox(own_service: Callable[[], Service]) -> None:
    """Where an event is missing that was never recorded, the worker records what is before it, stops with an alarm and
    throws nothing away, however often it looks again; nothing more is decided."""
    service = own_service()
    codes = [new_code() for _ in range(4)]
    service.book(*codes, new_code())  # the spare keeps the book from running out, which is an event too
    ok(service.checkout.post(f"/v1/coupons/redeem/{codes[0]}", json={"userId": "u"}), 201)
    until_recorded(service)
    with service.redis() as client:
        with service.run.asleep("worker"):
            for code in codes[1:]:
                ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "u"}), 201)
            ((_, _), (missing, _), (_, _)) = client.xrevrange("{p0}:outbox", count=3)
            client.xdel("{p0}:outbox", missing)
            _says_that_it_lags(service, codes[0])
            left = client.xrange("{p0}:outbox")
        alarms = wait(lambda: len(lines := _alarms(service)) >= 2 and lines)
        assert all("comes" in alarm for alarm in alarms)
        assert client.xrange("{p0}:outbox") == left
    rows = await service.fetch("SELECT code FROM redemptions WHERE code = ANY($1)", codes)
    assert {row["code"] for row in rows} == set(codes[:2])
    assert await service.fetch("SELECT * FROM quarantine") == []
    consistency = ok(service.operate.get("/v1/ops/consistency"))
    assert consistency["lagEvents"] >= 1
    assert consistency["state"] == "behind"
    refused(service.checkout.post(f"/v1/coupons/redeem/{service.coupon()}", json={"userId": "u"}), 503, "behind")
    for code in (codes[0], codes[1], codes[3]):
        assert ok(service.checkout.get(f"/v1/coupons/{code}"))["status"] == "redeemed"
    refused(service.checkout.get(f"/v1/coupons/{codes[2]}"), 503, "unavailable")  # who used it is nowhere


def _says_that_it_lags(service: Service, code: str) -> None:
    """Reads of what isn't recorded yet say how far behind they are; a preference that can't be met isn't applied."""
    answer = service.manage.get(f"/v1/coupons/{code}/redemptions")
    assert len(ok(answer)["items"]) == 1
    assert 1 <= int(answer.headers["Scrip-Lag-Seconds"]) < PATIENCE_S
    recorded = service.manage.get(f"/v1/redemptions/{ok(answer)['items'][0]['redemptionId']}")
    assert (ok(recorded)["code"], "Scrip-Lag-Seconds" in recorded.headers) == (code, True)
    refused(service.manage.get(f"/v1/redemptions/{uuid4()}"), 503, "behind")  # it may be one of those
    headers = {"Prefer": "durability=recorded, wait=1"}
    lone = service.checkout.post(f"/v1/coupons/redeem/{service.coupon()}", json={"userId": "u"}, headers=headers)
    assert ok(lone, 201)["durability"] == "fsynced"
    assert "Preference-Applied" not in lone.headers


def _alarms(service: Service) -> list[Any]:
    """The output of the worker when it stopped."""
    lines = service.run.output.read_text().splitlines()
    return [line for line in lines if '"event": "partition_stopped"' in line and '"level": "error"' in line]
