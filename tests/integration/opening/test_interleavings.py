"""Two workers on one partition: one stops before its n-th command to Redis or Postgres, for every n; another takes its
lease; then the first one goes on."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from service.engine.domain.decoding import convert
from service.engine.domain.errors import Refusal
from service.engine.formats import key_names
from service.engine.hot import redis_server
from service.engine.hot.scripts import Scripts
from service.engine.operations import assign, checkout, lock, redeem, rollback, unassign
from service.engine.record.partitions.partition_rows import read_partition, take_lease
from service.engine.worker import script_versions, write_behind
from service.engine.worker.opening import restorer
from service.server.in_postgres.book_rows import create_book
from service.server.in_postgres.code_rows import add_codes
from service.server.in_postgres.user_rows import patch_user
from service.server.requests.book_requests import CreateBook
from service.server.requests.code_requests import CodeLine
from tests.integration.opening.opening_fixtures import PartitionSetup
from tests.integration.opening.stepping import Workers, open_partition, record

MAX_STEPS = 170
"""More than an opening has."""


def differing(actual: dict[bytes, Any], wanted: dict[bytes, Any]) -> dict[bytes, Any]:
    """The different values, by key: the actual and the expected one."""
    names = actual.keys() | wanted.keys()
    return {name: (actual.get(name), wanted.get(name)) for name in names if actual.get(name) != wanted.get(name)}


class Walk:
    """A book with a code that is redeemed in each round, and the checks on it."""

    def __init__(self, setup: PartitionSetup) -> None:
        self.setup, self.sold, self.gifts = setup, 0, ""
        self.whole: dict[bytes, Any] = {}

    async def begin(self) -> "Walk":
        setup = self.setup
        book = convert({"name": "all", "maxRedemptionsPerCode": 10_000}, CreateBook)
        row, _ = await create_book(setup.pool, setup.caller.workspace, 0, book)
        await add_codes(setup.pool, setup.caller.workspace, 0, row.book, [CodeLine("ALL-1"), CodeLine("ALL-2")])
        await setup.reopen()
        await setup.do(assign.ASSIGN_CODE, "ALL-2", userId="vic")
        self.gifts = str(await setup.pool.fetchval("SELECT book_id FROM books WHERE name = 'f'"))
        self.sold = await setup.pool.fetchval("SELECT count(*) FROM redemptions")
        return self

    async def sell(self, **more: str) -> None:
        await self.setup.do(redeem.REDEEM, "ALL-1", userId="vic", **more)
        self.sold += 1

    async def trade(self, number: int) -> None:
        """Configuration, then each kind of event."""
        setup, workspace = self.setup, self.setup.caller.workspace
        await patch_user(setup.pool, workspace, 0, "vic", {"max_coupons": number + 9})
        await add_codes(setup.pool, workspace, 0, 1, [CodeLine(f"LATE-{number}", owner_id="zoe")])
        await setup.reopen()
        order = f"walk-{number}"
        await self.sell(orderId=order, key=order)
        await self.sell()
        await setup.do(unassign.UNASSIGN, f"LATE-{number}")
        await setup.do(unassign.UNASSIGN, "ALL-2")
        await setup.do(rollback.ROLLBACK_ORDER, order)
        await setup.do(assign.ASSIGN_CODE, "ALL-2", f"{order}-a", userId="vic")
        bought = {"userId": "vic", "code": "ALL-1", "orderValue": "3", "giftBookId": self.gifts}
        await setup.do(checkout.CHECKOUT, "", f"{order}-c", orderId=f"{order}-c", **bought)
        self.sold += 1
        await setup.do(rollback.ROLLBACK_ORDER, f"{order}-c")

    async def lose(self, loss: str, number: int) -> None:
        """Redis loses everything, the decisions of this round, or nothing; then its outbox is not recorded."""
        setup = self.setup
        kept = await setup.snapshot() if loss == "the tail" else {}
        if kept:
            await self.trade(number)
        await self.sell()
        if loss != "nothing":
            await setup.record()
        self.whole = await setup.everything()
        if loss == "everything":
            await setup.redis.flushall()
        elif kept:
            await setup.put_back(kept)
            await setup.redis.script_flush()

    async def try_to_sell(self) -> None:
        """Redeem in the epoch that the API has: only a complete Redis has the scripts and an open gate, and answers."""
        setup = self.setup
        row, gate = await read_partition(setup.pool, 0), await setup.values(key_names.gate(0))
        digests = Scripts(0, row.epoch, row.nonce, script_versions.SERVING[-1:]).digests.values()
        text = b"".join(gate.values())
        is_open = text == f"{row.epoch} open".encode() and all(await setup.redis.script_exists(*digests))
        is_whole = b"open" in text and await setup.everything() == self.whole
        assert is_whole or not is_open
        try:
            await self.sell()
        except Refusal as refusal:
            if refusal.code == "recovering":
                return
            raise
        assert is_whole
        self.whole = await setup.everything()

    async def held(self) -> dict[bytes, Any]:
        """The state that the first worker must not change: Redis, the partition's row, how many facts are recorded."""
        setup = self.setup
        row = await read_partition(setup.pool, 0)
        kept = await setup.redis.xrange(key_names.outbox(0), "{}-{}".format(*row.cursor))
        counted = await setup.pool.fetchrow("SELECT (SELECT count(*) FROM facts), (SELECT count(*) FROM quarantine)")
        row = msgspec.structs.replace(row, recorded_at=None)
        return await setup.values() | {b"outbox": kept, b"partition": row, b"counted": counted}

    async def check_recorded(self) -> None:
        """Each answered redemption is in Postgres once, and nothing is in quarantine."""
        await self.setup.record()
        count = self.setup.pool.fetchval
        assert await count("SELECT count(*) FROM redemptions") == self.sold
        assert await count("SELECT count(*) FROM quarantine") == 0


@pytest_asyncio.fixture
async def walk(setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch) -> Walk:
    monkeypatch.setattr(restorer, "KEYS_A_RUN", 50)
    monkeypatch.setattr(redis_server, "LOOK_S", 0.005)
    monkeypatch.setattr(script_versions, "SERVING", "lock redeem checkout assign_code unassign rollback_order".split())
    return await Walk(setup).begin()


@pytest_asyncio.fixture
async def workers(setup: PartitionSetup, database_url: str) -> AsyncIterator[Workers]:
    async with Workers(setup).connected(database_url) as workers:
        yield workers


@pytest.mark.parametrize("loss", ["everything", "the tail", "nothing"])
async def test_a_worker_that_stood_still_while_it_opened(
    walk: Walk, workers: Workers, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    """Only a complete Redis serves; the next worker completes it, and the first changes nothing when it goes on."""
    setup, number, is_done = walk.setup, 0, False
    monkeypatch.setattr(restorer, "EVENTS_A_RUN", 100 if loss == "everything" else 2)
    if loss == "nothing":
        await setup.do(lock.LOCK, "CODE-10", userId="ann")
    while not is_done:
        assert number < MAX_STEPS
        await walk.lose(loss, number)
        async with workers.asleep(number, open_partition) as sleeper:
            if is_done := not sleeper.stands:
                assert not differing(await setup.everything(), walk.whole)
            else:
                await walk.try_to_sell()
                await setup.learn()
                await walk.try_to_sell()
                await setup.open()
                assert not differing(await setup.everything(), walk.whole), sleeper.made
            assert not await setup.pool.fetchval("SELECT count(*) FROM recoveries WHERE finished_at IS NULL")
            await setup.learn()
            await walk.sell()
            held = await walk.held()
            await sleeper.wake()
            assert not differing(await walk.held(), held), sleeper.made
        await walk.sell()
        await walk.check_recorded()
        number += 1
    assert number > 30
    if loss != "nothing":
        assert await setup.recovery() == ("whole" if loss == "everything" else "tail")


@pytest.mark.parametrize("meanwhile", ["takes the lease", "records", "opens after a loss"])
async def test_a_worker_that_stood_still_while_it_recorded(
    walk: Walk, workers: Workers, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """Each event is recorded once, the outbox keeps the others; the first worker goes on, ends and changes nothing."""
    monkeypatch.setattr(write_behind, "KEEP_S", 0)
    monkeypatch.setattr(write_behind, "BLOCK_MS", 1)
    setup, number, is_done = walk.setup, 0, False
    while not is_done:
        assert number < MAX_STEPS
        kept = await setup.snapshot()
        await walk.trade(number)
        async with workers.asleep(number, record) as sleeper:
            await walk.sell()
            assert await take_lease(setup.pool, 0, "another")
            if meanwhile != "takes the lease":
                await setup.record()
            if meanwhile == "opens after a loss":
                whole = await setup.everything()
                await setup.put_back(kept)
                await setup.reopen()
                assert not differing(await setup.everything(), whole), sleeper.made
            await walk.sell()
            held = await walk.held()
            await sleeper.wake()
            assert not differing(await walk.held(), held), sleeper.made
            is_done = sleeper.made.count("XREAD") == 2
        await walk.check_recorded()
        number += 1
    assert number > 10
