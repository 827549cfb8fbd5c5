"""Redis, the API or the whole service dies or forgets, under load: what was answered stands, once, as it was."""

import asyncio
import csv
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import msgspec
import pytest

from service.server.in_postgres.book_rows import patch_book, read_book
from service.server.in_postgres.code_rows import add_codes
from service.server.in_postgres.user_rows import patch_user
from service.server.in_postgres.workspace_rows import read_workspace, workspace_named
from service.server.requests.book_requests import PatchBook
from service.server.requests.code_requests import CodeLine
from tests.harness.drifts import make, populated
from tests.harness.rebuilt_redis import everything
from tests.harness.service_fixture import Service, new_code, new_id, ok, refused
from tests.harness.waiting import PATIENCE_S, wait_until
from tests.lab.faults.recorded import until_recorded, wait


def _kill(service: Service, part: str) -> int:
    (pid,) = service.run.facts["pids"][part]
    os.kill(pid, signal.SIGKILL)
    return pid


async def test_postgres_is_away(patient: Service) -> None:
    """Redeems succeed, requests that need Postgres get 503, all is recorded once it is back; changes wait longer."""
    service, codes, refusals = patient, [new_code() for _ in range(200)], 0
    service.book(*codes, new_code())
    unused = iter(codes)
    for _ in range(2):
        pid = _kill(service, "postgres")
        while service.run.facts["pids"]["postgres"] in ([], [pid]):
            ok(service.checkout.post(f"/v1/coupons/redeem/{next(unused)}", json={"userId": "u"}), 201)
            for ask in (_list_books, _make_a_book, _make_a_key):
                answer = ask(service)
                if not answer.is_success:
                    back = ask is not _list_books and answer.json()["code"] == "recovering"
                    refused(answer, 503, "recovering" if back else "unavailable")
                    refusals += 1
        wait(lambda: _list_books(service).is_success)
    assert refusals > 0
    until_recorded(service)
    used = codes[: codes.index(next(unused))]
    rows = await service.fetch("SELECT code FROM redemptions WHERE code = ANY($1)", codes)
    assert sorted(row["code"] for row in rows) == sorted(used)


def _list_books(service: Service) -> httpx.Response:
    return service.manage.get("/v1/books", params={"limit": 1})


def _make_a_book(service: Service) -> httpx.Response:
    return service.manage.post("/v1/books", json={"name": "Unlucky"}, headers={"Idempotency-Key": uuid4().hex})


def _make_a_key(service: Service) -> httpx.Response:
    return service.operate.post("/v1/keys", json={"name": "unlucky", "scopes": ["public"]})


class OpeningShop:
    """A service with something in every state, a request that was answered under a key, and a lock."""

    def __init__(self, service: Service) -> None:
        self._used = make(populated(service), "used")
        self._body = {"userId": new_id(), "orderId": new_id("order"), "orderValue": "33.33"}
        self._key, self._holder = uuid4().hex, {"userId": new_id(), "orderId": new_id("order")}
        self._answer = self._redeem(service, service.coupon())
        self._path = self._answer.request.url.path
        until_recorded(service)

    def lock(self, service: Service) -> None:
        path = f"/v1/coupons/lock/{self._used.codes[1]}"
        self._holder["lockToken"] = ok(service.checkout.post(path, json=self._holder), 201)["lockToken"]

    def redeem_locked(self, service: Service) -> httpx.Response:
        body = self._holder | {"orderValue": 20}
        return service.checkout.post(f"/v1/coupons/redeem/{self._used.codes[1]}", json=body)

    def assert_answers_stand(self, service: Service) -> None:
        """The same request is answered in the same words, and what is used up is used up."""
        again = self._redeem(service, self._path.rpartition("/")[2])
        assert (again.status_code, again.content) == (self._answer.status_code, self._answer.content)
        assert again.headers["Idempotency-Replayed"] == "true"
        path = f"/v1/coupons/redeem/{self._used.codes[0]}"
        refused(service.checkout.post(path, json={"userId": new_id()}), 409, "coupon_redeemed")

    def _redeem(self, service: Service, code: str) -> httpx.Response:
        headers = {"Idempotency-Key": self._key}
        return service.checkout.post(f"/v1/coupons/redeem/{code}", json=self._body, headers=headers)


async def test_redis_forgets_everything(patient: Service) -> None:
    """FLUSHALL: 503 `recovering`, never 404, until all is rebuilt from Postgres; only locks are gone."""
    service = await asyncio.to_thread(patient.make_workspace, new_id("forgotten"), "live")
    shop, code = await asyncio.to_thread(OpeningShop, service), service.coupon()
    before = await _everything(service)
    shop.lock(service)

    with service.redis() as client:
        client.flushall()
    refusals: set[str] = set()

    def is_found() -> bool:
        if (answer := service.checkout.get(f"/v1/coupons/{code}")).is_success:
            return True
        refusals.add(refused(answer, 503, "recovering")["code"])
        validated = service.checkout.post("/v1/coupons/validate", json={"code": code})
        assert validated.status_code == 503 or "coupon_not_found" not in validated.json()["reasons"]
        return False

    await wait_until(is_found, "the rebuilt code")
    assert refusals == {"recovering"}

    await asyncio.to_thread(service.run.until_ready)  # the other partitions, too
    assert await _everything(service) == before
    refused(shop.redeem_locked(service), 409, "lock_lost")
    shop.assert_answers_stand(service)


async def _everything(service: Service) -> dict[str, Any]:
    """Everything of the service's workspace: others have locks, which are gone, too."""
    held = await everything(service.run.facts["redisUrl"])
    return {name: value for name, value in held.items() if name.startswith(service.prefix)}


def _aside(patient: Service) -> Service:
    """A workspace in another partition: later rebuilds and comparisons of `demo` would go through the test's codes."""
    return patient.make_workspace(new_id("many"), "live", 1)


async def test_the_api_is_killed_while_uploading(patient: Service) -> None:
    """The API dies in an upload: what Postgres has of it comes to Redis, and the repeat completes it."""
    service = await asyncio.to_thread(_aside, patient)
    book, codes = service.book(), [new_code() for _ in range(30_000)]
    path, headers = f"/v1/books/{book}/codes", {"Content-Type": "text/plain"}
    stats_client = httpx.Client(
        base_url=service.run.url, headers=dict(service.manage.headers), timeout=PATIENCE_S, verify=False
    )

    def lines() -> Iterator[bytes]:
        for start in range(0, len(codes), 1000):
            if start == 20_000:
                killer.join()
            yield "\n".join([*codes[start : start + 1000], ""]).encode()

    def kill() -> None:
        with stats_client:
            wait(lambda: ok(stats_client.get(f"/v1/books/{book}/stats"))["codes"])
        _kill(service, "api")

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(httpx.TransportError):
        service.manage.post(path, content=lines(), headers=headers)
    killer.join()
    wait(service.run.ready)
    ((stored,),) = await service.fetch("SELECT count(*) FROM codes WHERE code = ANY($1)", codes)
    assert 0 < stored < len(codes)
    wait(lambda: service.stats(book)["codes"] == stored)
    added = ok(service.manage.post(path, content="\n".join(codes).encode(), headers=headers))
    assert added == {"added": len(codes) - stored, "duplicates": stored, "invalid": 0, "errors": []}
    stats = service.stats(book)
    assert (stats["codes"], stats["available"]) == (len(codes), len(codes))


@pytest.mark.parametrize(("action", "status"), [("switchOff", "inactive"), ("release", "available")])
def test_processes_are_killed_while_codes_are_changed(patient: Service, action: str, status: str) -> None:
    """Worker and API die while a job changes codes: it goes on, with each code once, and both stores agree."""
    service, mark = _aside(patient), new_code()
    book = service.book()
    codes = [f"{mark}-{number:05}" for number in range(12_000 if action == "switchOff" else 4_000)]
    lines = "\n".join(["code,userId", *(f"{code},{mark}-{number // 10}" for number, code in enumerate(codes))])
    ok(service.manage.post(f"/v1/books/{book}/codes", content=lines.encode(), headers={"Content-Type": "text/csv"}))
    job = ok(service.manage.post(f"/v1/books/{book}/codes/change", json={"action": action}), 202)
    path = f"/v1/jobs/{job['jobId']}"
    wait(lambda: ok(service.manage.get(path))["done"])
    _kill(service, "worker")
    _kill(service, "api")
    ended = wait(lambda: (now := ok(service.manage.get(path)))["status"] != "running" and now)
    assert (ended["status"], ended["done"], ended["change"]["changed"]) == ("done", len(codes), len(codes))
    results = service.manage.get(f"{path}/results.csv").text.splitlines()[1:]
    assert sorted(line.partition(",")[0] for line in results) == codes
    until_recorded(service)
    wait(lambda: service.stats(book)[status] == len(codes))
    _assert_no_drift(service)


async def test_processes_are_killed_while_users_get_codes(patient: Service) -> None:
    """Worker and API die while jobs assign codes: each user has one code, the one of the results, in both stores."""
    service = await asyncio.to_thread(_aside, patient)
    users = [[new_id() for _ in range(1000)] for _ in range(4)]
    codes = [new_code() for _ in range(5000)]  # a user who gets two finds a second one
    book = service.book(*codes)
    path = f"/v1/books/{book}/codes/change"
    orders = [{"action": "assign", "users": some} for some in users]
    jobs = [ok(service.manage.post(path, json=order), 202)["jobId"] for order in orders]

    for part, least in (("worker", 300), ("worker", 1300), ("api", 2300)):
        wait(lambda least=least: service.stats(book)["assigned"] >= least)
        service.run.kill(part)
    results = list[list[str]]()
    for job in jobs:
        ended = wait(lambda job=job: (now := ok(service.manage.get(f"/v1/jobs/{job}")))["status"] != "running" and now)
        assert (ended["status"], ended["done"]) == ("done", 1000)
        rows = csv.DictReader(service.manage.get(f"/v1/jobs/{job}/results.csv").text.splitlines())
        results += [[row["user_id"], row["code"]] for row in rows if row["result"] == "changed"]
    until_recorded(service)
    assert sorted(user for user, _ in results) == sorted(itertools.chain(*users))
    assert len({code for _, code in results}) == len(results)
    rows = await service.fetch("SELECT user_id, code FROM assignments WHERE code = ANY($1)", codes)
    assert sorted(map(list, rows)) == sorted(results)
    _assert_no_drift(service)


def _assert_no_drift(service: Service) -> None:
    compared = ok(service.operate.post("/v1/ops/reconcile", json={}), 202)["jobId"]
    wait(lambda: ok(service.operate.get(f"/v1/jobs/{compared}"))["status"] == "done")
    assert ok(service.operate.get("/v1/ops/consistency"))["drift"] == {}


async def _write(service: Service, book: str, codes: list[CodeLine], capped: str = "") -> None:
    """Write codes, a user with cap 1 and a book with limit 1 into Postgres alone, as a process that dies then does."""
    pool = await asyncpg.create_pool(service.run.facts["databaseUrl"], min_size=1, max_size=2)
    try:
        number = await workspace_named(pool, "demo")
        assert number is not None
        partition = (await read_workspace(pool, number)).partition
        row = await read_book(pool, number, UUID(book))
        await add_codes(pool, number, partition, row.book, codes)
        if capped:
            await patch_user(pool, number, partition, capped, {"max_coupons": 1})
            limit = msgspec.convert({"maxRedemptions": 1}, PatchBook)
            await patch_book(pool, number, partition, UUID(book), limit)
    finally:
        await pool.close()


async def test_configuration_that_was_never_projected(patient: Service) -> None:
    """A change that is in Postgres alone, since the process that wrote it died, is in Redis within seconds."""
    service, user, codes = patient, new_id(), [new_code() for _ in range(3)]
    book = service.book(codes[0])
    await _write(service, book, [CodeLine(codes[1]), CodeLine(codes[2], owner_id=user)], user)
    wait(lambda: service.stats(book)["codes"] == 3)
    assert ok(service.checkout.get(f"/v1/coupons/{codes[2]}"))["userId"] == user

    def full() -> bool:
        return service.checkout.post(f"/v1/coupons/assign/{codes[1]}", json={"userId": user}).status_code == 422

    wait(full)
    ok(service.checkout.post(f"/v1/coupons/redeem/{codes[0]}", json={"userId": "u"}), 201)
    refused(service.checkout.post(f"/v1/coupons/redeem/{codes[1]}", json={"userId": "u"}), 409, "out_of_stock")


async def test_codes_that_are_there_already_are_there_for_all(patient: Service) -> None:
    """An upload that finds codes whose own upload died before Redis had them is answered once Redis has."""
    service, codes = patient, [new_code() for _ in range(3)]
    book = service.book()
    await _write(service, book, [CodeLine(code) for code in codes])

    def upload() -> httpx.Response:  # 503 where a slow worker takes too long
        return service.manage.post(f"/v1/books/{book}/codes", json={"codes": codes})

    answer = wait(lambda: (last := upload()).is_success and last)
    assert ok(answer) == {"added": 0, "duplicates": 3, "invalid": 0, "errors": []}
    for code in codes:
        assert ok(service.checkout.get(f"/v1/coupons/{code}"))["status"] == "available"


async def test_a_restart(own_service: Callable[[], Service]) -> None:
    """The next `scrip run` has everything: coupons, locks, counts and keys of repeated requests."""
    service = await asyncio.to_thread(own_service)
    shop = await asyncio.to_thread(OpeningShop, service)
    shop.lock(service)
    await service.projected()
    before = await everything(service.run.facts["redisUrl"])
    service.run.end()
    service = await asyncio.to_thread(own_service)
    assert await everything(service.run.facts["redisUrl"]) == before
    shop.assert_answers_stand(service)
    ok(shop.redeem_locked(service), 201)
