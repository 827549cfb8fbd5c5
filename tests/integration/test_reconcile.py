"""Comparisons of Redis with Postgres: every difference is reported and repaired, and no other."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from click.testing import Result

from loadtests.harness.servers import VALKEY, started
from service.reconcile.comparison import Busy
from service.record.partitions import comparisons as record
from tests.commands import scrip
from tests.drifts import in_redis
from tests.drifts.comparing import compare
from tests.drifts.rounds import drift
from tests.drifts.subject import World, make, tags
from tests.drifts.traffic import Traffic
from tests.integration.compared_shop import Shop, open_shop
from tests.service_fixture import Service, ok, refused, shared_service, until

LOAD_S = 8.0


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """A shop on a service of this file's own, since tests damage its Redis."""
    with shared_service() as service:
        yield open_shop(service)


def held(service: Service) -> dict[str, Any]:
    """Read all keys of Redis but the outbox, without counts of 0."""
    with service.redis() as client:
        names = [name for name in client.scan_iter(count=5000) if not name.endswith(":outbox")]
        read: dict[str, Callable[[str], Any]] = {
            "string": client.get,
            "list": lambda name: client.lrange(name, 0, -1),
            "zset": lambda name: client.zrange(name, 0, -1, withscores=True),
            "hash": lambda name: {field: said for field, said in client.hgetall(name).items() if said != "0"},
        }
        contents = {name: read[client.type(name)](name) for name in names}
        return {name: value for name, value in contents.items() if value}


def unlike(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the keys whose values differ."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def test_nothing_differs(shop: Shop) -> None:
    """On an undamaged Redis a comparison reports nothing and changes nothing."""
    before = held(shop.service)
    outcome, differences = compare(shop.service)
    assert (outcome.found, outcome.left, outcome.unsettled, differences) == ({}, {}, 0, [])
    assert unlike(before, held(shop.service)) == []


def test_each_is_mended(shop: Shop) -> None:
    """A repair restores Redis after each kind of damage; no report has a whole code."""
    service = shop.service
    world = World(service, shop.workspace, tags(1)).open()
    subjects = [(kind, make(world, kind.state)) for kind in in_redis.KINDS.values()]
    service.recorded()
    before = held(service)
    for kind, subject in subjects:
        asyncio.run(drift(kind, subject))
    things = {difference.thing for difference, _ in compare(service)[1]}
    assert [kind for kind, subject in subjects if not kind.expected(subject).keys() <= things] == []
    outcome, differences = compare(service, repair=True)
    assert (outcome.left, {state for _, state in differences}) == ({}, {"mended"}), differences
    assert all(
        code not in difference.thing
        for difference, _ in differences
        for _, subject in subjects
        for code in subject.codes
    )
    assert unlike(before, held(service)) == []


def test_what_is_locked_is_left(shop: Shop) -> None:
    """A repair reports a damaged coupon that is locked, and does not change it."""
    code = shop.name["single5"]
    body = {"userId": shop.name["bob"], "orderId": "held"}
    token = ok(shop.service.checkout.post(f"/v1/coupons/lock/{code}", json=body), 201)["lockToken"]
    with shop.service.redis() as redis:
        key = shop.key(f"c:{code}")
        redis.set(key, redis.get(key).replace("0 - - 0", "0 - - 1", 1))
        wrong = redis.get(key)
        outcome, _ = compare(shop.service, repair=True)
        assert (outcome.found, outcome.left) == ({"uses": 1}, {"uses": 1})
        assert redis.get(key) == wrong
        redis.set(key, redis.get(key).replace("0 - - 1", "0 - - 0", 1))
    unlocked = shop.service.checkout.post(f"/v1/coupons/unlock/{code}", json={"lockToken": token})
    assert unlocked.status_code == 204
    assert compare(shop.service)[0].found == {}


def test_another_is_built_and_holds_the_same(shop: Shop, tmp_path: Path) -> None:
    """`scrip rebuild --into` fills an empty Redis from Postgres, compares it with the live one, reports differences;
    it refuses the live Redis and one that is not empty."""
    facts = shop.service.run.facts
    before = held(shop.service)

    with started(VALKEY, tmp_path) as url:
        ended = command(shop.service, "rebuild", "--into", url)
        assert (ended.exit_code, "unlike" in ended.stdout) == (0, False), ended.output
        assert "Error: target_not_empty: " in command(shop.service, "rebuild", "--into", url).stderr
    assert "Error: target_is_live: " in command(shop.service, "rebuild", "--into", facts["redisUrl"]).stderr
    with started(VALKEY, tmp_path) as url, shop.service.redis() as redis:
        redis.hincrby(shop.key(f"n:{shop.number['single']}"), "redeemed", 5)
        ended = command(shop.service, "rebuild", "--into", url)
        redis.hincrby(shop.key(f"n:{shop.number['single']}"), "redeemed", -5)
    assert (ended.exit_code, ended.stdout.count("unlike: 1")) == (1, 1), ended.output
    assert unlike(before, held(shop.service)) == []


def test_by_the_api(shop: Shop) -> None:
    """A job compares, one at a time; `drift` has its differences until another job repairs them."""
    operate, drift = shop.service.operate, {"book_counts": 1}

    def run(repair: bool) -> dict[str, Any]:
        answer = operate.post("/v1/ops/reconcile", json={"repair": repair})
        assert refused(operate.post("/v1/ops/reconcile", json={}), 409, "reconcile_running")
        path = answer.headers["Location"]
        assert ok(answer, 202)["kind"] == "reconcile"
        job = until(lambda: (response := ok(operate.get(path)))["status"] != "running" and response)
        assert (job["status"], job["errors"], job["done"]) == ("done", [], job["requested"])
        return ok(operate.get("/v1/ops/consistency"))

    before = run(repair=False)
    assert (before["drift"], before["reconciledTo"]) == ({}, before["lastRecorded"])
    with shop.service.redis() as redis:
        redis.hincrby(shop.key(f"n:{shop.number['single']}"), "redeemed", 5)
    response = run(repair=False)
    assert response["drift"] == drift
    assert response["lastReconciledAt"] > before["lastReconciledAt"]
    assert run(repair=True)["drift"] == {}
    assert '"event": "drift", "level": "error"' in shop.service.run.output.read_text()


def test_the_lag_is_the_oldest_events_age(shop: Shop) -> None:
    """While the worker is stopped the lag is the age of the oldest unrecorded event."""
    (worker,) = shop.service.run.facts["pids"]["worker"]
    code, answers = shop.service.coupon(), []
    time.sleep(1.5)
    os.kill(worker, signal.SIGSTOP)
    try:
        began = time.monotonic()
        ok(shop.service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": shop.name["cem"]}), 201)
        for _ in range(2):
            time.sleep(0.5)
            answers.append(ok(shop.service.operate.get("/v1/ops/consistency")))
        passed_s = time.monotonic() - began
    finally:
        os.kill(worker, signal.SIGCONT)
    assert [one["lagEvents"] for one in answers] == [2, 2]  # the second is book.exhausted
    assert 0.4 < answers[0]["lagSeconds"] < answers[1]["lagSeconds"] < passed_s + 0.1
    last = until(lambda: (answer := ok(shop.service.operate.get("/v1/ops/consistency")))["lagEvents"] == 0 and answer)
    assert last["lagSeconds"] == 0


def test_one_at_a_time(shop: Shop) -> None:
    """During a comparison another is refused with `reconcile_running`; the command ends with 2."""
    token = uuid4()
    assert asyncio.run(_with_pool(shop, lambda pool: record.begin(pool, 0, token, 60_000)))
    with pytest.raises(Busy):
        compare(shop.service)
    ended = command(shop.service)
    assert (ended.exit_code, "reconcile_running: " in ended.stderr) == (2, True)
    asyncio.run(_with_pool(shop, lambda pool: record.end(pool, 0, token, whole=False)))
    ended = command(shop.service)
    assert (ended.exit_code, "Nothing differs" in ended.stdout) == (0, True), ended.stderr


def test_killed_it_leaves_nothing(shop: Shop) -> None:
    """A killed comparison has changed nothing, and the next one starts once its lease expires."""
    before, whole = held(shop.service), [sys.executable, "-m", "service", "reconcile"]
    for after_s in (0.6, 0.9, 1.2):
        process = subprocess.Popen(whole, env=os.environ | _env(shop.service), stdout=subprocess.DEVNULL)
        time.sleep(after_s)
        process.kill()
        process.wait()
    ended = until(lambda: (response := command(shop.service)).exit_code != 2 and response)
    assert (ended.exit_code, "Nothing differs" in ended.stdout) == (0, True), ended.stderr
    assert unlike(before, held(shop.service)) == []


def test_under_load_nothing_is_taken_for_a_difference(shop: Shop) -> None:
    """Under a load of all operations comparisons report no difference."""
    compared = 0
    with Traffic(shop.service, LOAD_S) as traffic:
        while traffic.going or not compared:
            outcome, differences = compare(shop.service)
            assert outcome.found == {}, differences
            compared += 1
        assert traffic.went_well() > 20
    outcome, differences = compare(shop.service)
    assert (outcome.found, outcome.unsettled) == ({}, 0), differences


def command(service: Service, *words: str) -> Result:
    """Run `scrip reconcile`, or another command, on the service."""
    return scrip(*(words or ("reconcile",)), **_env(service))


def _env(service: Service) -> dict[str, str]:
    facts = service.run.facts
    return {"REDIS_URL": facts["redisUrl"], "DATABASE_URL": facts["databaseUrl"]}


async def _with_pool(shop: Shop, ask: Callable[[asyncpg.Pool], Awaitable[Any]]) -> Any:
    pool = await record.connect(shop.service.run.facts["databaseUrl"])
    try:
        return await ask(pool)
    finally:
        await pool.close()
