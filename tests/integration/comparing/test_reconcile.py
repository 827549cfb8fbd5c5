"""Comparisons of Redis with Postgres: every difference is reported and repaired, and no other."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import Result

from service.engine.formats import key_names
from service.engine.record.queries import query
from service.server.in_postgres import comparisons as record
from service.server.reconcile.comparison import Busy
from service.server.reconcile.coupon_differences import Coupons
from tests.harness.commands import scrip
from tests.harness.comparing import compare, compared, held, unlike
from tests.harness.drifts import DriftWorkspace, make, populated
from tests.harness.rebuilt_redis import unlike_built
from tests.harness.servers import VALKEY
from tests.harness.service_fixture import Service, database, ok, refused, shared_service
from tests.harness.waiting import elapse, until, wait_until

_WAITS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'scrip-reconcile' AND wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def workspace() -> Iterator[DriftWorkspace]:
    """A service of this file's own, since tests damage its Redis, with every kind of data."""
    with shared_service() as service:
        yield populated(service)


def test_nothing_differs(workspace: DriftWorkspace) -> None:
    """On an undamaged Redis a comparison reports nothing and changes nothing, also after a change of configuration that
    is of no row, as an upload of known codes."""
    known = make(workspace, "idle")
    path = f"/v1/books/{known.book_id}/codes"
    assert ok(workspace.service.manage.post(path, json={"codes": known.codes[:3]}))["duplicates"] == 3
    workspace.service.recorded()
    before = held(workspace.service)
    outcome, differences = compare(workspace.service)
    assert (outcome.differing, outcome.left, outcome.unsettled, differences) == ({}, {}, 0, [])
    assert unlike(before, held(workspace.service)) == []


def test_what_is_locked_is_left(workspace: DriftWorkspace) -> None:
    """A repair reports a damaged coupon that is locked, and does not change it."""
    code = make(workspace, "idle").codes[0]
    body = {"userId": "bob", "orderId": "held"}
    token = ok(workspace.service.checkout.post(f"/v1/coupons/lock/{code}", json=body), 201)["lockToken"]
    with workspace.service.redis() as redis:
        key = workspace.key(f"d:{key_names.bucket(code)}")
        right = redis.hget(key, code)
        wrong = f"9{right}"  # another book's
        redis.hset(key, code, wrong)
        outcome, _ = compare(workspace.service, repair=True)
        assert (outcome.differing, outcome.left) == ({"book": 1}, {"book": 1})
        assert redis.hget(key, code) == wrong
        redis.hset(key, code, right)
    unlocked = workspace.service.checkout.post(f"/v1/coupons/unlock/{code}", json={"lockToken": token})
    assert unlocked.status_code == 204
    assert compare(workspace.service)[0].differing == {}


async def test_what_was_locked_is_mended(workspace: DriftWorkspace) -> None:
    """A repair changes a coupon whose lock has expired, though no request has touched it since."""
    service = workspace.service
    code = make(workspace, "idle").codes[0]
    body = {"userId": "bob", "orderId": "held", "lockSeconds": 1}
    ok(service.checkout.post(f"/v1/coupons/lock/{code}", json=body), 201)
    async with database(service.run.facts["databaseUrl"]) as postgres:
        await postgres.execute("UPDATE codes SET active = false WHERE code = $1", code)

    async def nothing_is_left() -> bool:
        outcome, _ = await compared(service, repair=True)
        return not outcome.left

    await wait_until(nothing_is_left, "the end of the lock, and a repair")
    refused(service.checkout.post(f"/v1/coupons/lock/{code}", json=body), 409, "coupon_inactive")


async def test_a_rebuilt_redis_holds_the_same(workspace: DriftWorkspace, tmp_path: Path) -> None:
    """Recovery's code fills an empty Redis from Postgres with what the live one holds; a difference is found."""
    service = workspace.service
    live, counters = service.run.facts["redisUrl"], workspace.key(f"n:{workspace.refuge}")
    async with asyncpg.create_pool(service.run.facts["databaseUrl"]) as pool:
        (tmp_path / "first").mkdir()
        assert await unlike_built(live, pool, VALKEY, tmp_path / "first") == []
        with service.redis() as redis:
            redis.hincrby(counters, "redeemed", 5)
            differences = await unlike_built(live, pool, VALKEY, tmp_path)
            redis.hincrby(counters, "redeemed", -5)
    assert [line.partition(": ")[0] for line in differences] == [counters]


def test_by_the_api(workspace: DriftWorkspace) -> None:
    """A job compares, one at a time; `drift` has its differences until another job repairs them."""
    operate, drift = workspace.service.operate, {"book_counts": 1}

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
    with workspace.service.redis() as redis:
        for counter in ("redeemed", "discount", "discountHigh"):
            redis.hincrby(workspace.key(f"n:{workspace.refuge}"), counter, 5)
    response = run(repair=False)
    assert response["drift"] == drift
    assert response["lastReconciledAt"] > before["lastReconciledAt"]
    assert run(repair=True)["drift"] == {}
    lines = [line for line in workspace.service.run.output.read_text().splitlines() if '"event": "drift"' in line]
    entries = [(entry["level"], entry["workspace"]) for entry in map(json.loads, lines)]
    assert ("error", workspace.service.workspace) in entries


async def test_the_lag_is_the_oldest_events_age(workspace: DriftWorkspace) -> None:
    """While the worker is stopped the lag is the age of the oldest unrecorded event."""

    def read() -> dict[str, Any]:
        return ok(workspace.service.operate.get("/v1/ops/consistency"))

    code = workspace.service.coupon()
    await elapse(1.5, "no event that is recorded is younger")
    with workspace.service.run.asleep("worker"):
        began = time.monotonic()
        ok(workspace.service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "cem"}), 201)
        first = until(lambda: (answer := read())["lagSeconds"] > 0.4 and answer)
        second = until(lambda: (answer := read())["lagSeconds"] > first["lagSeconds"] and answer)
        passed_s = time.monotonic() - began
    assert [one["lagEvents"] for one in (first, second)] == [2, 2]  # the second is book.exhausted
    assert second["lagSeconds"] < passed_s + 0.1
    assert until(lambda: (answer := read())["lagEvents"] == 0 and answer)["lagSeconds"] == 0


async def test_a_comparison_gives_way_to_retention(workspace: DriftWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a book is leaving Redis, a comparison is refused with `reconcile_running`, and the command ends with 2. A
    comparison during which one began to leave reports, repairs and stores nothing."""
    service, partition = workspace.service, workspace.service.partition
    book_counts, pools = workspace.key(f"n:{workspace.refuge}"), Coupons.pools
    with service.run.asleep("worker"):
        async with await record.connect(service.run.facts["databaseUrl"]) as pool:
            leaving = f"UPDATE books SET archiving = $1 WHERE workspace = {service.number} AND book = $2"
            await pool.execute(leaving, True, workspace.refuge)
            with pytest.raises(Busy):
                await compared(service)
            ended = await asyncio.to_thread(command, service)
            assert (ended.exit_code, "reconcile_running: " in ended.stderr) == (2, True)
            await pool.execute(leaving, False, workspace.refuge)

            async def begin(coupons: Coupons) -> None:
                await pool.execute(query("note_removal"), partition)
                await pools(coupons)

            with service.redis() as redis:
                redis.hincrby(book_counts, "redeemed", 5)
                stored = await pool.fetch("SELECT * FROM reconciled")
                with monkeypatch.context() as patch:
                    patch.setattr(Coupons, "pools", begin)
                    with pytest.raises(Busy):
                        await compared(service, repair=True)
                assert await pool.fetch("SELECT * FROM reconciled") == stored
                redis.hincrby(book_counts, "redeemed", -5)
    ended = await asyncio.to_thread(command, service)
    assert (ended.exit_code, "Nothing differs" in ended.stdout) == (0, True), ended.stderr


async def test_the_next_worker_runs_the_job_of_a_killed_one(workspace: DriftWorkspace) -> None:
    """The job of a worker that is killed during the comparison is run by the next holder of the lease."""
    service = workspace.service
    async with database(service.run.facts["databaseUrl"]) as postgres, postgres.transaction():
        await postgres.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        ordered = await asyncio.to_thread(service.operate.post, "/v1/ops/reconcile", json={"repair": False})
        assert ordered.status_code == 202
        await wait_until(lambda: service.fetch(_WAITS), "a comparison that reads users")
        (worker,) = service.run.facts["pids"]["worker"]
        os.kill(worker, signal.SIGKILL)
    await asyncio.to_thread(service.run.until_replaced, "worker", worker)
    path = ordered.headers["Location"]
    job = await asyncio.to_thread(until, lambda: (now := ok(service.operate.get(path)))["status"] != "running" and now)
    assert (job["status"], job["errors"]) == ("done", [])


async def test_killed_it_leaves_nothing(workspace: DriftWorkspace) -> None:
    """A comparison that is killed while it reads a table has changed nothing, and the next one can start."""
    service, whole = workspace.service, [sys.executable, "-m", "service", "reconcile"]
    before = held(service)
    async with database(service.run.facts["databaseUrl"]) as postgres:
        for table in ("codes", "redemptions", "users"):
            async with postgres.transaction():
                await postgres.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                env = os.environ | service.urls
                process = await asyncio.create_subprocess_exec(*whole, env=env, stdout=subprocess.DEVNULL)
                await wait_until(lambda: service.fetch(_WAITS), f"a comparison that reads {table}")
                process.kill()
                await process.wait()
    ended = await asyncio.to_thread(command, service)
    assert (ended.exit_code, "Nothing differs" in ended.stdout) == (0, True), ended.stderr
    assert unlike(before, held(service)) == []


def command(service: Service) -> Result:
    """Run `scrip reconcile` on the service."""
    return scrip("reconcile", **service.urls)
