"""Two workers on one partition: one stands still before its n-th command to Redis or Postgres, for every n; another
takes its lease; then the first one wakes."""

from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from service.domain import keys
from service.domain.books import CreateBook
from service.domain.codes import CodeLine
from service.domain.decoding import convert
from service.domain.errors import Refusal
from service.hot import server
from service.hot.scripts import Scripts
from service.operations import assign, redeem, rollback, unassign
from service.record.books import create_book
from service.record.codes import add_codes
from service.record.partitions import read_partition
from service.record.users import patch_user
from service.worker import flush, mending, opening
from tests.integration.opening_fixtures import Place
from tests.integration.stepping import Workers, open_partition, record


class Walk:
    """A book with a code that is redeemed again and again, and what must be true of it."""

    def __init__(self, place: Place) -> None:
        self.place, self.sold, self.epoch = place, 0, 0
        self.whole: dict = {}

    async def begin(self) -> "Walk":
        place = self.place
        book = convert({"name": "all", "maxRedemptionsPerCode": 10_000}, CreateBook)
        row, _ = await create_book(place.pool, place.caller.workspace, 0, book)
        await add_codes(place.pool, place.caller.workspace, 0, row.book, [CodeLine("ALL-1"), CodeLine("ALL-2")])
        await self.reopen()
        await place.do(assign.ASSIGN_CODE, "ALL-2", userId="vic")
        self.sold = await place.pool.fetchval("SELECT count(*) FROM redemptions")
        return self

    async def reopen(self) -> None:
        """As another worker does; the API hears of it."""
        await self.place.open()
        await self.place.learn()

    async def sell(self, **more: str) -> None:
        """One redemption."""
        await self.place.do(redeem.REDEEM, "ALL-1", userId="vic", **more)
        self.sold += 1

    async def trade(self, number: int) -> None:
        """Configuration, then each kind of event."""
        place = self.place
        await patch_user(place.pool, place.caller.workspace, 0, "vic", {"max_coupons": number + 2})
        await self.reopen()
        await self.sell(orderId=f"walk-{number}", key=f"walk-{number}")
        await self.sell()
        await place.do(unassign.UNASSIGN, "ALL-2")
        await place.do(rollback.ROLLBACK_ORDER, f"walk-{number}")
        await place.do(assign.ASSIGN_CODE, "ALL-2", userId="vic")

    async def lose(self, loss: str, number: int) -> None:
        """Redis loses everything, all since the last round, or nothing; what is not recorded then is in it."""
        place = self.place
        kept = await place.snapshot() if loss == "the tail" else {}
        if kept:
            await self.trade(number)
        await self.sell()
        if loss != "nothing":
            await place.record()
        self.whole, self.epoch = await place.everything(), (await read_partition(place.pool, 0)).epoch
        if loss == "everything":
            await place.redis.flushall()
        elif kept:
            await place.put_back(kept)
            await place.redis.script_flush()

    async def try_to_sell(self) -> None:
        """Only a Redis that is whole has the scripts, and sells."""
        place = self.place
        row, gate = await read_partition(place.pool, 0), await place.redis.get(keys.gate(0)) or b""
        digests = Scripts(0, row.epoch, row.nonce, opening.SERVING[-1:]).digests.values()
        has_scripts = row.epoch > self.epoch and all(await place.redis.script_exists(*digests))
        is_whole = (has_scripts or gate.endswith(b"open")) and await place.everything() == self.whole
        assert is_whole or not has_scripts
        try:
            await self.sell()
        except Refusal as refusal:
            if refusal.code == "recovering":
                return
            raise
        assert is_whole
        self.whole = await place.everything()

    async def held(self) -> tuple:
        """All that another worker and the API rest on."""
        place = self.place
        row = await read_partition(place.pool, 0)
        kept = await place.redis.xrange(keys.outbox(0), "{}-{}".format(*row.cursor))
        counted = await place.pool.fetchrow("SELECT (SELECT count(*) FROM facts), (SELECT count(*) FROM quarantine)")
        return await place.values(), kept, msgspec.structs.replace(row, recorded_at=None), counted

    async def is_all_recorded(self) -> bool:
        """Whether each redemption that was answered is in Postgres once."""
        await self.place.record()
        return self.sold == await self.place.pool.fetchval("SELECT count(*) FROM redemptions")


@pytest_asyncio.fixture
async def walk(place: Place, monkeypatch: pytest.MonkeyPatch) -> Walk:
    monkeypatch.setattr(mending, "KEYS_A_RUN", 50)
    monkeypatch.setattr(server, "LOOK_S", 0.005)
    monkeypatch.setattr(opening, "SERVING", ["redeem", "assign_code", "unassign", "rollback_order"])
    return await Walk(place).begin()


@pytest_asyncio.fixture
async def workers(place: Place, database_url: str) -> AsyncIterator[Workers]:
    async with Workers(place).connected(database_url) as workers:
        yield workers


@pytest.mark.parametrize("loss", ["everything", "the tail", "nothing"])
async def test_a_worker_that_stood_still_while_it_opened(
    walk: Walk, workers: Workers, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    """Only a Redis that is whole gets the scripts of requests, and answers them. Whoever takes over makes it whole; and
    who wakes then changes nothing."""
    place, number, is_done = walk.place, 0, False
    monkeypatch.setattr(mending, "EVENTS_A_RUN", 100 if loss == "everything" else 2)
    while not is_done:
        await walk.lose(loss, number)
        async with workers.asleep(number, open_partition) as sleeper:
            if is_done := not sleeper.stands:
                assert await place.everything() == walk.whole
            else:
                await walk.try_to_sell()
                await place.learn()
                await walk.try_to_sell()
                await place.open()
                assert await place.everything() == walk.whole, sleeper.made
            await place.learn()
            await walk.sell()
            held = await walk.held()
            await sleeper.wake()
            assert await walk.held() == held, sleeper.made
        await walk.sell()
        assert await walk.is_all_recorded(), sleeper.made
        number += 1
    assert number > 30


@pytest.mark.parametrize("meanwhile", ["records", "opens", "opens after a loss"])
async def test_a_worker_that_stood_still_while_it_recorded(
    walk: Walk, workers: Workers, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """Whatever another worker did meanwhile, each event is recorded once, the outbox keeps what is not recorded, and
    the first worker hears that its lease is lost."""
    monkeypatch.setattr(flush, "KEEP_S", 0)
    monkeypatch.setattr(flush, "BLOCK_MS", 1)
    place, number, is_done = walk.place, 0, False
    while not is_done:
        await walk.lose("nothing", number)
        kept = await place.snapshot()
        await walk.trade(number)
        await walk.sell()
        async with workers.asleep(number, record) as sleeper:
            await walk.sell()
            if meanwhile == "opens after a loss":
                await place.record()
                whole = await place.everything()
                await place.put_back(kept)
            if meanwhile == "records":
                await place.record()
            else:
                await walk.reopen()
            if meanwhile == "opens after a loss":
                assert await place.everything() == whole, sleeper.made
            await walk.sell()
            held = await walk.held()
            await sleeper.wake()
            assert await walk.held() == held, sleeper.made
            is_done = sleeper.made.count("XREAD") == 2
        assert await walk.is_all_recorded(), sleeper.made
        number += 1
    assert number > 10
