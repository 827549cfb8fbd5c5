"""The bench on real servers, small."""

import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from loadtests import bench
from loadtests.parts import tenants
from loadtests.parts.reports import BOOKS, list_reports, write_rollups
from loadtests.subject import Subject, opened
from tests.harness.plugin import require
from tests.harness.service_fixture import Service, new_code, ok
from tests.harness.waiting import running, wait_until


@pytest.fixture(autouse=True)
def compiler() -> None:
    require(os.environ.get("CC") or "cc")


@pytest_asyncio.fixture
async def subject(service: Service) -> AsyncIterator[Subject]:
    """The service that all tests share, as the bench sees it."""
    async with opened(service.run) as subject:
        yield subject


async def test_pairs_are_locked_and_redeemed_once_each(subject: Subject, service: Service) -> None:
    """200 pairs on 16 connections redeem each code once, in Redis and in Postgres, with order and value."""
    stock = await subject.stock(300, full=True)
    spent = await subject.pairs(stock, 16, 200, 30, full=True)
    assert (spent.load.good, spent.load.finished) == (True, 200)
    assert spent.load.answers == {"lock 201": 200, "redeem 201": 200}
    assert spent.load.latency_us["lock"].count == spent.load.latency_us["redeem"].count == 200
    assert await subject.redeemed(stock.book_id) == (200, 200, 200)
    assert service.stats(stock.book_id)["redemptions"] == 200
    assert all(spent.cpu_s[part] >= 0 for part in ("api", "redis", "worker", "postgres"))
    assert all(spent.grown_bytes[size] > 0 for size in ("network", "wal"))
    (row, *_) = ok(service.manage.get(f"/v1/books/{stock.book_id}/redemptions?limit=1"))["items"]
    assert (row["orderValue"], row["discountAmount"]) == ("59.90", "8.98")
    assert row["orderId"] is not None
    assert stock.left == 100


async def test_at_an_opening_exactly_what_there_is_is_sold(subject: Subject, service: Service) -> None:
    """Of 500 buyers of 50 codes, and of 50 uses of one code, 50 get one and 450 the reason; Postgres agrees."""
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


async def test_reports_are_read_beside_other_tenants(
    subject: Subject, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client reads each report in turn, on roll-ups that were written for it."""
    name = f"greedy-{uuid4().hex}"
    client = service.make_workspace(name, "live").admin
    for book in BOOKS[:2]:
        ok(client.post("/v1/books", json=book), 201)
    await write_rollups(subject.postgres, name, redemptions=10_000, days=3)
    items = ok(client.get("/v1/reports/redemptions"))["items"]
    assert [item["redemptions"] for item in items] == [24 * 69 * 2] * 4  # 69 in an hour of a book
    monkeypatch.setattr(tenants, "GREEDY", name)
    tenant = tenants.GreedyTenant(service.run, subject.target, "", "", Counter())
    async with running(tenants.WORKS["reports"](tenant)):
        await wait_until(lambda: tenant.counts.total() >= len(list_reports()))
    assert set(tenant.counts) == {"200"}


def test_the_command_prints_its_table_and_keeps_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`bench --only pairs`, on servers of its own, prints its table and stores it with all figures."""
    options = "--quick --only pairs --plain --codes 1000 --connections 4 32".split()
    assert bench.main([*options, "--results", str(tmp_path)]) == 0
    (folder,) = tmp_path.iterdir()
    table = (folder / "table.md").read_text()
    assert capsys.readouterr().out == f"{table}\nKept in {folder}\n"
    assert table.count("| plain pairs | 1,000 |") == 2
    assert {path.name for path in folder.iterdir()} == {"table.md", "bench.json"}
