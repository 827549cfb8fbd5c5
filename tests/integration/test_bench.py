"""The bench on real servers, small."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from loadtests import bench
from loadtests.subject import Subject, opened
from tests.conftest import require
from tests.service_fixture import Service, new_code, ok


@pytest.fixture(autouse=True)
def compiler() -> None:
    """Without one there is no bench."""
    require(os.environ.get("CC") or "cc")


@pytest_asyncio.fixture
async def subject(service: Service) -> AsyncIterator[Subject]:
    """The service that all tests share, as the bench sees it."""
    async with opened(service.run) as subject:
        yield subject


@pytest.mark.parametrize("full", [False, True], ids=["plain", "full"])
async def test_pairs_are_locked_and_redeemed_once_each(subject: Subject, service: Service, full: bool) -> None:
    """200 pairs on 16 connections: each code once in Redis and in Postgres, as was asked for; then the rest of them."""
    stock = await subject.stock(300, full)
    spent = await subject.pairs(stock, 16, 200, 30, full)
    assert (spent.load.good, spent.load.finished) == (True, 200)
    assert spent.load.answers == {"lock 201": 200, "redeem 201": 200}
    assert spent.load.latency_us["lock"].count == spent.load.latency_us["redeem"].count == 200
    assert sum(spent.load.timeline) == 400
    assert await subject.redeemed(stock.book_id) == (200, 200, 200)
    assert service.stats(stock.book_id)["redemptions"] == 200
    assert all(spent.cpu_s[part] >= 0 for part in ("api", "redis", "worker", "postgres"))
    (row, *_) = ok(service.manage.get(f"/v1/books/{stock.book_id}/redemptions?limit=1"))["items"]
    assert (row["orderValue"], row["discountAmount"]) == (("59.90", "8.98") if full else (None, "0.00"))
    assert (row["orderId"] is not None) is full

    assert stock.left == 100
    rest = await subject.pairs(stock, 16, 200, 30, full)
    assert (rest.load.good, rest.load.finished, stock.left) == (True, 100, 0)
    assert await subject.redeemed(stock.book_id) == (300, 300, 300)


async def test_full_pairs_have_keys_of_their_own(subject: Subject, service: Service) -> None:
    """Each request one, that is recorded."""
    stock = await subject.stock(20, full=True)
    assert (await subject.pairs(stock, 4, 20, 30, full=True)).load.good
    run = f"{stock.prefix[-6:-1]}0".lower()
    rows = await service.fetch("SELECT key FROM idempotency_keys WHERE key LIKE $1", f"{run}-%-redeem")
    assert len({row["key"] for row in rows}) == 20


async def test_at_an_opening_exactly_what_there_is_is_sold(subject: Subject, service: Service) -> None:
    """500 buyers for 50 codes, and for 50 uses of one: 50 get one, 450 hear why not, and Postgres says the same."""
    stock = await subject.stock(50, full=False)
    spent = await subject.opening(500, 100, "out_of_stock", book=stock.book_id)
    assert spent.load.good
    assert spent.load.answers == {"assign 201": 50, "assign 409 out_of_stock": 450}
    assert await subject.assigned(stock.book_id) == (50, 50, 50)

    code = new_code()
    book_id = service.book(code, maxRedemptionsPerCode=50)
    spent = await subject.opening(500, 100, "coupon_exhausted", code=code)
    assert spent.load.good
    assert spent.load.answers == {"redeem 201": 50, "redeem 409 coupon_exhausted": 450}
    assert await subject.redeemed(book_id) == (50, 1, 50)


async def test_an_opening_that_refuses_for_another_reason_is_wrong(subject: Subject, service: Service) -> None:
    """Buyers of a book that isn't sold any more hear so, and that is not what was expected."""
    stock = await subject.stock(5, full=False)
    ok(service.manage.patch(f"/v1/books/{stock.book_id}", json={"status": "inactive"}))
    spent = await subject.opening(20, 4, "out_of_stock", book=stock.book_id)
    assert (spent.load.good, spent.load.answers) == (False, {"assign 409 book_inactive": 20})
    assert spent.load.wrong.startswith("20 answers that should not be")


async def test_the_lag_is_seen(subject: Subject) -> None:
    """Whatever was decided during a load took its time to be recorded; nothing is behind in the end."""
    spent = await subject.pairs(await subject.stock(100, full=False), 4, 100, 30, full=False)
    assert spent.lags
    assert spent.lag_s == max(lag for _, lag in spent.lags)
    await subject.behind.caught_up()


def test_the_command_prints_its_table_and_keeps_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One part of it, on servers of its own."""
    options = "--quick --only pairs --plain --codes 1000 --connections 4 32".split()
    assert bench.main([*options, "--results", str(tmp_path)]) == 0
    (folder,) = tmp_path.iterdir()
    table = (folder / "table.md").read_text()
    assert capsys.readouterr().out == f"{table}\nKept in {folder}\n"
    assert table.count("| plain pairs | 1,000 |") == 2
    assert (folder / "bench.json").exists()
