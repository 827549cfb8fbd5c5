"""The worker deletes old jobs, notices and samples, a bounded number at a time."""

import json
import time

import asyncpg
from uuid_utils.compat import uuid7

from service.engine.formats.events import StockNotice
from service.engine.worker.housekeeping import clean_up
from service.server.in_postgres import job_rows, refused_batches, samples, webhook_rows
from service.server.in_postgres.history_pages import KEEP_NOTICES_DAYS, prune_notices
from service.server.in_postgres.refused_batches import Refused, RefusedBatch
from service.server.in_postgres.workspace_rows import create_workspace
from service.server.requests.webhook_protocol import KEEP_DAYS
from service.server.tasks.process_tasks import PRUNES
from tests.harness.waiting import running, wait_until
from tests.integration.recording.record_fixtures import EVENT_MS
from tests.integration.webhooks.webhook_fixtures import Office, Receiver

_LOW = StockNotice(epoch=0, seq=0, workspace=1, book=2, notice="low", what="codes", left=1, at_ms=EVENT_MS)

_MAKE = """
INSERT INTO jobs (job_id, workspace, kind, parameters, requested, status, finished_at)
VALUES ($1, $2, 'reconcile', '{"repair": false}', 1, $3, now() - $4::int * interval '1 day')
"""


async def test_jobs_that_ended_long_ago_are_forgotten(pool: asyncpg.Pool) -> None:
    """Jobs that ended more than KEEP_DAYS ago are deleted, a bounded number at a time, however many older ones run;
    running ones and later ones stay."""
    async with pool.acquire() as connection:
        workspace = (await create_workspace(connection, "shop")).workspace
    for status, days in (
        *[("running", None)] * 4,
        *[("done", job_rows.KEEP_DAYS + 1)] * 5,
        ("failed", job_rows.KEEP_DAYS - 1),
    ):
        await pool.execute(_MAKE, uuid7(), workspace, status, days)
    assert await job_rows.prune_jobs(pool, 3) == 3
    await _clean_up(pool, "SELECT array_agg(DISTINCT status ORDER BY status) = '{failed,running}' FROM jobs")


async def test_old_notices_are_forgotten(office: Office) -> None:
    """Notices are deleted 90 days after they were recorded, by Postgres's clock, a bounded number at a time."""
    await _notice(office, 3, KEEP_NOTICES_DAYS + 1)
    await _notice(office, 2, KEEP_NOTICES_DAYS - 1)
    await office.pool.execute("UPDATE stock_notices SET noticed_at = '1999-01-01'")
    assert [await prune_notices(office.pool, 2) for _ in range(3)] == [2, 1, 0]
    assert await _noticed(office) == [4, 5]
    await _notice(office, 1, KEEP_NOTICES_DAYS + 1)
    await _clean_up(office.pool, "SELECT array_agg(seq ORDER BY seq) = '{4,5}' FROM stock_notices")


async def test_notices_wait_for_webhooks(office: Office, receiver: Receiver) -> None:
    """A notice stays until no webhook needs it and its deliveries are gone; one long switched off does not count."""
    row = await office.webhook(receiver.url(), "book.low_stock")
    await _notice(office, 2, KEEP_NOTICES_DAYS + 1)
    assert await prune_notices(office.pool, 10) == 0
    office.send()
    await wait_until(lambda: office.statuses_are(delivered=2))
    await office.stop()
    assert await prune_notices(office.pool, 10) == 0
    oldest, _ = await office.deliveries()
    await office.pool.execute("DELETE FROM webhook_deliveries WHERE position = $1", oldest["position"])
    assert await prune_notices(office.pool, 10) == 1
    await office.pool.execute("DELETE FROM webhook_deliveries")
    await _notice(office, 1, KEEP_NOTICES_DAYS + 1)
    assert await prune_notices(office.pool, 10) == 1
    assert await _noticed(office) == [3]
    await webhook_rows.patch_webhook(office.pool, 1, row.webhook_id, status="inactive")
    assert await prune_notices(office.pool, 10) == 0
    await office.pass_s((KEEP_DAYS + 1) * 86400)
    assert await prune_notices(office.pool, 10) == 1


async def test_expired_samples_are_forgotten(pool: asyncpg.Pool) -> None:
    """Samples of ten seconds are deleted after an hour, those of five minutes after a day, some at a time."""
    now_s = int(time.time())
    for age_s in (7300, 4000, 60):
        await samples.add_traffic(pool, now_s - age_s, {1: ({"locked": 1}, {})})
        await samples.add_backlog(pool, now_s - age_s, [samples.Backlog(0, 1, 1)])
    assert [await samples.prune_samples(pool, 1) for _ in range(3)] == [1, 1, 0]
    for step_s, left in ((10, 1), (300, 3)):
        span = (step_s, now_s - 2 * 86_400, now_s + 1)
        assert len(await samples.read_traffic(pool, 1, *span)) == left
        assert len(await samples.read_backlog(pool, 0, *span)) == left
    await samples.add_traffic(pool, now_s - 90_000, {1: ({}, {})})
    await _clean_up(pool, f"SELECT min(at) > to_timestamp({now_s - 90_000 + 600}) FROM sampled_steps")


async def test_refusals_are_found_for_an_hour(pool: asyncpg.Pool) -> None:
    """A refusal is found by request id, newest first, for an hour, then deleted. What was not stored is counted."""
    old, new, other = (
        Refused(name, workspace, at_ms, "POST /x", 409, "coupon_locked", 1.5, "…7F3K")
        for name, workspace, at_ms in (("r1", 7, 1), ("r1", 7, 2), ("r1", 8, 3))
    )
    await refused_batches.add_refused(pool, 0, RefusedBatch([old], {}))
    await refused_batches.add_refused(pool, 0, RefusedBatch([], {}))  # stores nothing
    await refused_batches.add_refused(pool, 0, RefusedBatch([new, other], {7: 1, 8: 3}))
    assert await refused_batches.find_refused(pool, "r1") == ([other, new, old], 4)
    assert await refused_batches.find_refused(pool, "r1", 7) == ([new, old], 1)
    assert await refused_batches.find_refused(pool, "r2") == ([], 4)
    await pool.execute("UPDATE refused_requests SET at = now() - interval '61 minutes'")
    assert await refused_batches.find_refused(pool, "r1") == ([], 0)
    assert [await refused_batches.prune_refused(pool, 1) for _ in range(3)] == [1, 1, 0]


async def test_another_workspace_hides_no_refusal(pool: asyncpg.Pool) -> None:
    """A workspace finds its refusal also after another has sent the same request id in more batches than are read. A
    search of all workspaces reads every batch."""
    mine, other = (Refused("r1", workspace, 1, "POST /x", 409, "locked", 1.5, None) for workspace in (7, 8))
    for one in [mine] + [other] * (refused_batches.MAX_BATCHES + 1):
        await refused_batches.add_refused(pool, 0, RefusedBatch([one], {}))
    assert (await refused_batches.find_refused(pool, "r1", 7)).refusals == [mine]
    assert len((await refused_batches.find_refused(pool, "r1", 8)).refusals) == refused_batches.MAX_BATCHES
    assert mine in (await refused_batches.find_refused(pool, "r1")).refusals


async def test_samples_of_processes_are_added(pool: asyncpg.Pool) -> None:
    """Counts of a step are the sums of all processes' in both tables; the backlog is the highest; a step in which only
    another workspace had requests is empty, and none is a gap."""
    mine = {1: ({"locked": 2, "recovering": 1}, {1000: 2})}
    for at_s, traffic in (
        (600, mine),
        (600, {1: ({"locked": 5}, {1000: 1, 2000: 7})}),
        (610, {2: ({"locked": 9}, {})}),
    ):
        await samples.add_traffic(pool, at_s, traffic)
    for at_s, events in ((600, 7), (600, 3), (890, 5)):
        await samples.add_backlog(pool, at_s, [samples.Backlog(3, events, events * 2)])
    summed = samples.StoredTraffic(600, {"locked": 7, "recovering": 1}, {1000: 3, 2000: 7})
    assert await samples.read_traffic(pool, 1, 10, 0, 900) == [summed, samples.StoredTraffic(610, {}, {})]
    assert await samples.read_traffic(pool, 1, 300, 0, 900) == [summed]
    hours = await pool.fetch("SELECT workspace, at, counts FROM traffic_samples WHERE step_s = 3600 ORDER BY 1")
    assert [(row["workspace"], row["at"].timestamp(), json.loads(row["counts"])) for row in hours] == [
        (1, 0, {"locked": 7, "recovering": 1}),
        (2, 0, {"locked": 9}),
    ]
    assert await samples.read_backlog(pool, 3, 10, 0, 900) == [(600, 7, 14), (890, 5, 10)]
    assert await samples.read_backlog(pool, 3, 300, 0, 900) == [(600, 7, 14)]


async def _clean_up(pool: asyncpg.Pool, is_clean: str) -> None:
    """Run the worker's housekeeping until this query returns true."""
    async with running(clean_up(pool, PRUNES)):
        await wait_until(lambda: pool.fetchval(is_clean))


async def _notice(office: Office, count: int, days: int) -> None:
    """Record so many notices of the book, so many days ago."""
    after = max(await _noticed(office), default=0)
    await office.kept.write(*[_LOW] * count)
    await office.pool.execute(
        "UPDATE stock_notices SET recorded_at = now() - $1 * interval '1 day' WHERE seq > $2", days, after
    )


async def _noticed(office: Office) -> list[int]:
    return [row["seq"] for row in await office.pool.fetch("SELECT seq FROM stock_notices ORDER BY seq")]
