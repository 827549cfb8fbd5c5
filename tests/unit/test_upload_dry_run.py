"""The dry run of an upload: distinct codes and rejected lines, in bounded memory."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from service.server.api import upload_dry_run
from service.server.api.upload_dry_run import DistinctCounter, collect_rejected
from service.server.requests.code_requests import CodeLine, RejectedLine


def test_distinct_codes() -> None:
    """A code counts once, however often and whenever it comes."""
    counter = DistinctCounter(buckets=4, bucket_codes=512)
    for _ in range(5):
        counter.add((f"CODE-{number % 700}", 0) for number in range(1_000))
    assert (counter.count(), counter.is_exact) == (700, True)


def test_repeated_codes_are_counted_exactly() -> None:
    """300,000 codes are counted exactly, also if the file has each twice."""
    counter = DistinctCounter()
    for _ in range(2):
        counter.add((f"CODE-{number}", 0) for number in range(300_000))
    assert (counter.count(), counter.is_exact) == (300_000, True)


def test_more_codes_than_fit() -> None:
    """Beyond its memory the counter estimates, and keeps no more codes."""
    counter = DistinctCounter(buckets=16, bucket_codes=512)
    for _ in range(2):
        counter.add((f"CODE-{number}", 0) for number in range(50_000))
    assert not counter.is_exact
    assert counter.count() == pytest.approx(50_000, rel=0.15)
    assert max(map(len, counter._buckets)) < 512


def test_amounts_of_distinct_codes() -> None:
    """The sum has each code's first amount, exactly; beyond the memory it is estimated, too."""
    counter = DistinctCounter(buckets=4, bucket_codes=512, has_cards=True)
    for amount_e4 in (20_000, 90_000):
        counter.add((f"CODE-{number}", amount_e4 + number) for number in range(700))
    assert (counter.count(), counter.sum_amounts()) == (700, 700 * 20_000 + sum(range(700)))
    counter.add((f"MORE-{number}", 20_000) for number in range(50_000))
    assert not counter.is_exact
    assert counter.sum_amounts() == pytest.approx(counter.count() * 20_000, rel=0.05)
    assert [len(amounts) for amounts in counter._amounts or ()] == [len(bucket) for bucket in counter._buckets]


def test_too_many_rejected_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of rejected lines ends at its limit, and says so."""
    monkeypatch.setattr(upload_dry_run, "MAX_REJECTED_BYTES", 100)

    async def parsed() -> AsyncIterator[list[CodeLine | RejectedLine]]:
        for number in range(1, 50):
            yield [CodeLine("GOOD"), RejectedLine(number, "x", "is bad", "x,y")]

    lines = asyncio.run(collect_rejected(parsed(), None)).decode().splitlines()
    assert lines[:2] == ["line,reason,text", '1,is bad,"x,y"']
    assert (len(lines), lines[-1]) == (8, ",More lines are rejected; correct these lines first.,")
