"""The worker that sends webhooks is killed while it sends."""

import asyncio
from collections import defaultdict
from collections.abc import Callable

from service.server.webhooks.endpoint import AT_ONCE, WAITING
from tests.harness.service_fixture import Service, new_code, ok
from tests.harness.waiting import elapse, wait_until
from tests.integration.webhooks.webhook_fixtures import Receiver

_KILLS = 2


async def test_a_killed_sender(own_service: Callable[[], Service]) -> None:
    """Every event arrives, of each coupon in order; again, under the same id, only what the killed sender had taken."""
    service = own_service()
    codes = [new_code() for _ in range(60)]
    async with Receiver().listening() as receiver:
        receiver.delay_s = lambda got: 0.1
        hook = {"url": receiver.url(), "events": ["coupon.redeemed", "redemption.rolled_back"]}
        await asyncio.to_thread(lambda: ok(service.admin.post("/v1/webhooks", json=hook), 201))
        selling = asyncio.create_task(asyncio.to_thread(_used_and_back, service, codes))
        for number in range(1, _KILLS + 1):
            await wait_until(lambda: len(receiver.got) >= number * 30)  # noqa: B023
            await elapse(0.15 * number, "deliveries go out eight at a time: not always between two eights")
            await asyncio.to_thread(service.run.kill, "worker")
        await selling
        await wait_until(lambda: len({got.headers["webhook-id"] for got in receiver.got}) == 2 * len(codes))

        arrived: dict[str, list[str]] = defaultdict(list)
        ids: dict[tuple[str, str], set[str]] = defaultdict(set)
        for got in receiver.got:
            arrived[got.code].append(got.type)
            ids[got.code, got.type].add(got.headers["webhook-id"])
        assert arrived.keys() == set(codes)
        for types in arrived.values():
            assert sorted(types, key=["coupon.redeemed", "redemption.rolled_back"].index) == types
        assert all(len(event_ids) == 1 for event_ids in ids.values())
        assert len(receiver.got) <= 2 * len(codes) + _KILLS * (AT_ONCE + WAITING)


def _used_and_back(service: Service, codes: list[str]) -> None:
    service.book(*codes, new_code())
    for code in codes:
        used = ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "u"}), 201)
        ok(service.manage.post(f"/v1/redemptions/{used['redemptionId']}/rollback", json={}))
