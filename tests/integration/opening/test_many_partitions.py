"""One service with four partitions: each fails, and is refused, by itself."""

import asyncio
import contextlib
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import httpx
import pytest

from tests.harness.plugin import leave_out
from tests.harness.service_fixture import Service, new_code, new_id, ok, refused, without_postgres
from tests.harness.waiting import PATIENCE_S, until

PARTITIONS = range(4)


@pytest.fixture
def spread(patient: Service) -> Service:
    """A service with four partitions, and a workspace `shop<n>` in each."""
    if patient.partitions < len(PARTITIONS):
        leave_out("SCRIP_TEST_PARTITIONS is below 4")
    if not _shop(patient, 0).get("/v1/users/nobody").is_success:
        with ThreadPoolExecutor() as threads:  # each waits until a worker has projected its workspace
            list(
                threads.map(lambda partition: patient.make_workspace(f"shop{partition}", "live", partition), PARTITIONS)
            )
    return patient


def _shop(service: Service, partition: int) -> httpx.Client:
    return service.client(f"shop{partition}_admin")


def _readiness(service: Service) -> tuple[int, dict[int, str], list[str]]:
    """Status, reasons by partition, and failing parts without the partitions."""
    response = service.anonymous.get("/health/ready")
    body = response.json()
    assert body.keys() == {"status", "failing", "partitions"}
    reasons = {one["partition"]: one["reason"] for one in body["partitions"]}
    others = [name for name in body["failing"] if not name.startswith("partition ")]
    assert body["failing"][len(others) :] == [f"partition {partition}" for partition in reasons]
    assert body["status"] == ("ready" if response.is_success else "not_ready")
    return response.status_code, reasons, others


def _lock(client: httpx.Client, code: str, user: str = "ann") -> httpx.Response:
    return client.post(f"/v1/coupons/lock/{code}", json={"userId": user})


async def test_a_closed_partition_is_refused_alone(spread: Service) -> None:
    """Readiness names each partition that is not served, and why; only its requests are refused; without any served
    partition the process is not ready. All of it ends when a worker has opened the partitions."""
    codes = [new_code() for _ in PARTITIONS]
    for partition, code in zip(PARTITIONS, codes, strict=True):
        spread.book(code, client=_shop(spread, partition), maxRedemptionsPerCode=None)
    until(lambda: _readiness(spread) == (200, {}, []))

    with spread.run.asleep("worker"):
        await spread.fetch("UPDATE partitions SET state = 'closed' WHERE id = 2")
        spread.redis().delete("{p1}:gate", "{p2}:gate")
        until(lambda: _readiness(spread) == (200, {1: "unverified", 2: "closed"}, []))
        for partition, code in zip(PARTITIONS, codes, strict=True):
            shop = _shop(spread, partition)
            if partition in (1, 2):
                refused(_lock(shop, code), 503, "recovering")
                written = shop.post("/v1/books", json={"name": "Sale"})
                refused(written, 503, "recovering" if partition == 2 else "outcome_unknown")
                assert ok(shop.get("/v1/ops/consistency"))["state"] == "recovering"
            else:
                ok(_lock(shop, code), 201)
                ok(shop.post("/v1/books", json={"name": "Sale"}), 201)
        await spread.fetch("UPDATE partitions SET state = 'closed'")
        spread.redis().delete("{p0}:gate", "{p3}:gate")
        every = dict.fromkeys(PARTITIONS, "closed")
        until(lambda: _readiness(spread) == (503, every, []))
        assert spread.anonymous.get("/health/ready").headers["Retry-After"] == "1"

    until(lambda: _readiness(spread) == (200, {}, []))
    for partition, code in zip(PARTITIONS, codes, strict=True):
        ok(_lock(_shop(spread, partition), code, "bob"), 201)


async def test_without_one_of_the_servers(spread: Service) -> None:
    """Without Postgres a process stays ready, because Redis decides; without Redis it serves no partition."""
    async with without_postgres(spread):
        assert _readiness(spread) == (200, {}, ["postgres"])
    with spread.run.asleep("redis"):
        status, reasons, _ = _readiness(spread)
        assert (status, reasons) == (503, dict.fromkeys(PARTITIONS, "redis_unavailable"))
    until(lambda: _readiness(spread) == (200, {}, []))


class Buyer:
    """A thread that buys in one partition, one request after the other, and counts its answers."""

    def __init__(self, service: Service, partition: int) -> None:
        # A request without an event needs no outbox: partition 2 loses its own.
        operation = "lock" if partition == 2 else "redeem"
        code = new_code()
        service.book(code, client=_shop(service, partition), maxRedemptionsPerCode=None)
        self._url = f"{service.run.url}/v1/coupons/{operation}/{code}"
        self._headers = _shop(service, partition).headers
        self.good = 0
        self.refusals: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._buy)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _buy(self) -> None:
        with httpx.Client(headers=self._headers, timeout=PATIENCE_S, verify=False) as client:
            while not self._ended.is_set():
                answer = client.post(self._url, json={"userId": new_id()})
                if answer.is_success:
                    self.good += 1
                else:
                    self.refusals.append(answer.json()["code"])


def _read_epochs(service: Service) -> list[int]:
    return [row["epoch"] for row in asyncio.run(service.fetch("SELECT epoch FROM partitions ORDER BY id"))]


def test_a_fault_of_one_partition_closes_it_alone(spread: Service) -> None:
    """One partition loses its gate, another its outbox, and the worker dies: no other refuses, and both open again
    with a new epoch. On a busy machine that may take less time than lies between two requests of its buyer."""
    with contextlib.ExitStack() as stack:
        buyers = [stack.enter_context(Buyer(spread, partition)) for partition in PARTITIONS]

        def all_buy() -> None:
            before = [buyer.good for buyer in buyers]
            until(lambda: all(buyer.good > good + 10 for buyer, good in zip(buyers, before, strict=True)))

        all_buy()
        for partition, lost in ((1, "{p1}:gate"), (2, "{p2}:outbox")):
            spread.recorded()
            epochs = _read_epochs(spread)
            assert spread.redis().delete(lost) == 1
            until(lambda: _read_epochs(spread)[partition] > epochs[partition])  # noqa: B023
            all_buy()
        (worker,) = spread.run.facts["pids"]["worker"]
        os.kill(worker, signal.SIGKILL)
        all_buy()
        spread.run.until_replaced("worker", worker)
        all_buy()
    assert not [buyer.refusals for buyer in (buyers[0], buyers[3]) if buyer.refusals]
    assert {*buyers[1].refusals, *buyers[2].refusals} <= {"recovering"}
    until(lambda: _readiness(spread) == (200, {}, []))
