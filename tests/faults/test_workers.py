"""Workers that die, sleep, come back and meet: one records at a time, nothing twice, and nothing past a gap."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.load import PATIENCE_S, Load, recorded, wait
from tests.service_fixture import Service, new_code, ok, refused

_ROOT = Path(__file__).parents[2]


@contextmanager
def _second_worker(service: Service) -> Iterator[subprocess.Popen[bytes]]:
    """Another worker on the servers of a service."""
    facts = service.run.facts
    env = os.environ | {"REDIS_URL": facts["redisUrl"], "DATABASE_URL": facts["databaseUrl"]}
    with service.run.output.with_name("second").open("wb") as output:
        command = [sys.executable, "-m", "service", "worker"]
        process = subprocess.Popen(command, cwd=_ROOT, env=env, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait(15)


async def _holder(service: Service) -> int:
    """The pid of the worker that has the lease."""
    ((holder,),) = await service.fetch("SELECT lease_holder FROM partitions")
    return int(holder.split(":")[1])


async def _fence(service: Service) -> int:
    """The number of the lease."""
    ((fence,),) = await service.fetch("SELECT fence FROM partitions")
    return fence


async def _freeze(service: Service, worker: int, load: Load) -> None:
    """Stop a worker, if at all possible within a transaction: it holds locks then."""
    open_ = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'scrip-worker' AND state = 'idle in transaction'"
    while True:
        os.kill(worker, signal.SIGSTOP)
        if await service.fetch(open_) or len(load.answers) > 400:
            return
        os.kill(worker, signal.SIGCONT)
        await asyncio.sleep(0.007)


async def test_two_workers(own_service: Callable[[], Service]) -> None:
    """Worker and Redis killed at once, then a worker asleep: each time another takes over, and every answer is recorded
    once; buyers are served while there is no worker."""
    service = own_service()
    (first,) = service.run.facts["pids"]["worker"]
    with _second_worker(service):
        load = Load(service, 300)
        with load.running():
            load.until(50)
            assert await _holder(service) == first
            (redis,) = service.run.facts["pids"]["redis"]
            os.kill(first, signal.SIGKILL)
            os.kill(redis, signal.SIGKILL)
            service.run.until_replaced("redis", redis)
        await load.check()

        asleep, fence = await _holder(service), await _fence(service)
        assert asleep != first
        load = Load(service, 500)
        with load.running():
            await _freeze(service, asleep, load)
            load.until(min(500, len(load.answers) + 20))
            assert await _holder(service) == asleep  # nobody had to wait for another worker
            load.until(500)
        assert load.refused.total() == 0
        try:
            async with asyncio.timeout(PATIENCE_S):
                while await _holder(service) == asleep:  # noqa: ASYNC110, it is Postgres that knows
                    await asyncio.sleep(0.1)
        finally:
            os.kill(asleep, signal.SIGCONT)
        await load.check()
        more = Load(service, 100)
        with more.running():
            pass
        await more.check()
        await load.check()
        assert await _fence(service) != fence  # it may have taken a new lease, where the other one was slow


async def test_a_gap_in_the_outbox(own_service: Callable[[], Service]) -> None:
    """Where an event is missing that was never recorded, the worker records what is before it, stops with an alarm and
    throws nothing away, however often it looks again; nothing more is decided."""
    service = own_service()
    codes = [new_code() for _ in range(4)]
    service.book(*codes, new_code())  # the spare keeps the book from running out, which is an event too
    ok(service.checkout.post(f"/v1/coupons/redeem/{codes[0]}", json={"userId": "u"}), 201)
    await recorded(service)
    (worker,) = service.run.facts["pids"]["worker"]
    os.kill(worker, signal.SIGSTOP)
    for code in codes[1:]:
        ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "u"}), 201)
    with service.redis() as client:
        ((_, _), (missing, _), (_, _)) = client.xrevrange("{p0}:outbox", count=3)
        client.xdel("{p0}:outbox", missing)
        _says_that_it_lags(service, codes[0])
        left = client.xrange("{p0}:outbox")
        os.kill(worker, signal.SIGCONT)

        alarms = wait(lambda: len(found := _alarms(service)) >= 2 and found, 25)
        assert all("comes" in alarm for alarm in alarms)
        assert client.xrange("{p0}:outbox") == left
    rows = await service.fetch("SELECT code FROM redemptions WHERE code = ANY($1)", codes)
    assert {row["code"] for row in rows} == set(codes[:2])
    assert await service.fetch("SELECT * FROM quarantine") == []
    told = ok(service.operate.get("/v1/ops/consistency"))
    assert told["lagEvents"] >= 1
    assert told["state"] == "behind"
    refused(service.checkout.post(f"/v1/coupons/redeem/{service.coupon()}", json={"userId": "u"}), 503, "behind")
    for code in (codes[0], codes[1], codes[3]):
        assert ok(service.checkout.get(f"/v1/coupons/{code}"))["status"] == "redeemed"
    refused(service.checkout.get(f"/v1/coupons/{codes[2]}"), 503, "unavailable")  # who used it is nowhere


def _says_that_it_lags(service: Service, code: str) -> None:
    """Reads of what isn't recorded yet say how far behind they are; a preference that can't be met isn't applied."""
    answer = service.manage.get(f"/v1/coupons/{code}/redemptions")
    assert len(ok(answer)["items"]) == 1
    assert 1 <= int(answer.headers["Scrip-Lag-Seconds"]) < 20
    headers = {"Prefer": "durability=recorded, wait=1"}
    lone = service.checkout.post(f"/v1/coupons/redeem/{service.coupon()}", json={"userId": "u"}, headers=headers)
    assert ok(lone, 201)["durability"] == "fsynced"
    assert "Preference-Applied" not in lone.headers


def _alarms(service: Service) -> list[Any]:
    """What the worker said when it stopped."""
    lines = service.run.output.read_text().splitlines()
    return [line for line in lines if '"event": "stopped"' in line and '"level": "error"' in line]
