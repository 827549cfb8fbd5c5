"""Rows that are packed by runs."""

import random

import pytest

from service.server.in_postgres import bulk_reads
from service.server.in_postgres.bulk_reads import PackedRuns


@pytest.mark.parametrize("packed_rows", [1, 7, 10_000])
def test_rows_come_back_in_order(monkeypatch: pytest.MonkeyPatch, packed_rows: int) -> None:
    """Rows that were added in any order are read by runs, each once, whether they were packed or not."""
    monkeypatch.setattr(bulk_reads, "PACKED_ROWS", packed_rows)
    rows = [(number // 3, f"CODE-{number}", None, True) for number in range(300)]
    shuffled = random.Random(1).sample(rows, len(rows))
    runs = PackedRuns(10)
    for start in range(0, len(rows), 20):
        runs.add(shuffled[start : start + 20])
    read = list(runs.read())
    assert [{row[0] // 10 for row in run} for run in read] == [{number} for number in range(10)]
    flat = [tuple(row) for run in read for row in run]
    assert [row[0] for row in flat] == [row[0] for row in rows]
    assert sorted(flat) == sorted(rows)
