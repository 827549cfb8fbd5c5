"""Stored answers of any size are read and written in runs of bounded bytes."""

from collections.abc import Sequence
from contextlib import aclosing, closing
from typing import Any, cast
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest

from service.common.byte_runs import IN_FLIGHT_BYTES, RUN_BYTES, split_by_bytes
from service.engine.formats.coupon_state import Difference
from service.engine.hot.decider import Reply
from service.engine.hot.inspection import RedisInspector
from service.engine.hot.redis_server import Server
from service.engine.hot.scripts import Scripts
from service.engine.record.facts.fact_reader import key_pages
from service.engine.record.partitions.partition_rows import read_partition
from service.engine.worker.opening import restorer
from service.server.reconcile.counter_differences import Keys
from service.server.reconcile.examination import Examiner
from tests.harness.reaching import reach
from tests.integration.opening.opening_fixtures import PartitionSetup

LARGE, HUGE = RUN_BYTES // 4, RUN_BYTES * 3
SIZES = [100, LARGE, *[200] * 40, *[LARGE] * 60, HUGE, 300, LARGE]


async def insert_entries(setup: PartitionSetup, entries: dict[str, str]) -> None:
    """Insert entries of these keys into Postgres alone, of events before the first epoch."""
    await setup.pool.executemany(
        "INSERT INTO idempotency_keys (workspace, key, op, epoch, seq, at, entry) "
        "VALUES ($1, $2, 'request', 0, $3, now(), $4)",
        [(setup.caller.workspace, key, seq, entry) for seq, (key, entry) in enumerate(entries.items(), 1)],
    )


async def insert_sizes(setup: PartitionSetup) -> dict[str, str]:
    """Insert entries of all SIZES; the entries by key."""
    entries = {uuid4().hex: f"f 0 200 - {'z' * size}" for size in SIZES}
    await insert_entries(setup, entries)
    return entries


def test_parts_are_bounded_by_number_and_by_bytes() -> None:
    """split_by_bytes keeps the order and all items; an item beyond the bound is alone in its part."""
    sizes = [1, RUN_BYTES, 5, 6, 7, RUN_BYTES + 1, RUN_BYTES - 1, 1, 1]
    parts = list(split_by_bytes(sizes, int, 2))
    assert parts == [[1], [RUN_BYTES], [5, 6], [7], [RUN_BYTES + 1], [RUN_BYTES - 1, 1], [1]]


async def test_recovery(setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebuild restores all entries, within the bounds on bytes in a run and in flight."""
    monkeypatch.setattr(restorer, "KEYS_A_RUN", 500)
    entries, run, runs, flying = await insert_sizes(setup), Server.run, list[list[int]](), [0]

    async def weigh(server: Server, scripts: Scripts, script: str, names: Sequence[str], args: Sequence[Any]) -> Reply:
        sizes = [len(entry) for entry in args[1::3]] if script == "restore_keys" else []
        flying[0] += sum(sizes)
        runs.append(sizes)
        assert flying[0] <= IN_FLIGHT_BYTES or flying[0] == sum(sizes)  # a larger one goes alone
        try:
            return await run(server, scripts, script, names, args)
        finally:
            flying[0] -= sum(sizes)

    monkeypatch.setattr(Server, "run", weigh)
    await setup.redis.flushall()
    await setup.open()
    for key, entry in entries.items():
        assert await setup.redis.get(f"{setup.caller.prefix}i:{key}") == entry.encode()
    assert all(sum(sizes) <= RUN_BYTES or len(sizes) == 1 for sizes in runs)
    assert len([sizes for sizes in runs if sizes]) < len(entries) / 2  # many to a run, all the same


async def test_pages(setup: PartitionSetup) -> None:
    """A page of entries from Postgres has at most RUN_BYTES, or one entry."""
    entries = await insert_sizes(setup)
    async with setup.pool.acquire() as connection, aclosing(key_pages(connection, 0)) as pages:
        read = [page async for page in pages]
    assert {key.key: key.entry for page in read for key in page}.items() >= entries.items()
    assert all(sum(len(key.entry) for key in page) <= RUN_BYTES or len(page) == 1 for page in read)


async def test_reconciling(setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconciling finds and repairs different entries of any size, and reads at most RUN_BYTES at once."""
    entries = await insert_sizes(setup)
    await setup.rebuild()
    read, differences, reads = RedisInspector.read, list[Difference](), list[list[int]]()

    async def weigh(inspector: RedisInspector, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        replies = await read(inspector, commands)
        reads.append([len(text or "") for reply in replies for text in reply])
        return replies

    names = {size: f"{setup.caller.prefix}i:{key}" for key, size in zip(entries, SIZES, strict=True)}
    await setup.redis.set(names[LARGE], b"f 0 200 - " + b"y" * LARGE)
    await setup.redis.set(names[200], b"f 0 200 - " + b"y" * 200)
    await setup.redis.delete(names[HUGE])
    row = await read_partition(setup.pool, 0)
    with closing(await reach(setup.valkey_url)) as connection:
        inspector = RedisInspector(connection, 0, row.epoch, row.nonce)
        await inspector.start()
        monkeypatch.setattr(RedisInspector, "read", weigh)
        for expected in (3, 0):
            about = (inspector, setup.pool, setup.caller.workspace, True)
            examiner = Examiner(*about, lambda one, _: differences.append(one), AsyncMock())
            await Keys(examiner).compare()
            assert len(differences) == expected
            differences.clear()
    assert all(sum(sizes) <= RUN_BYTES or len(sizes) == 1 for sizes in reads)
    for key, entry in entries.items():
        assert cast("Any", await setup.redis.get(f"{setup.caller.prefix}i:{key}")) == entry.encode()
