"""Walk over the buckets of codes, orders and gifts page by page, with the record's rows in the same order.
coupon_differences.py and use_differences.py read their first pass with this; comparison.py calls `buckets_of`. A row
begins with its bucket, and rows come in the order of buckets. Only reads."""

from bisect import bisect_right
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Any

from service.engine.formats import key_names
from service.engine.hot.inspection import RedisInspector
from service.server.in_postgres.bulk_reads import Rows

BUCKETS_A_PAGE = 1024
SMALL = 20_000
"""In a workspace with at most so many codes and orders, only existing buckets are read (comparison.py); else all."""
KINDS = "dog"
"""The kinds of these keys (key_names.py): directory, orders, gifts."""

BucketsByKind = dict[str, set[int]]
"""Buckets by the kind of their hash."""


async def buckets_of(inspector: RedisInspector, workspaces: Collection[int]) -> dict[int, BucketsByKind]:
    """The existing buckets of these workspaces."""
    buckets: dict[int, BucketsByKind] = {workspace: {kind: set() for kind in KINDS} for workspace in workspaces}
    if workspaces:
        async for page in inspector.walk_keys(set(KINDS)):
            for key in page:
                if key.workspace in buckets:
                    buckets[key.workspace][key.kind].add(int(key.parts[0]))
    return buckets


async def pages(recorded: Rows, existing: set[int] | None) -> AsyncGenerator[tuple[list[int], list[Any]], None]:
    """Yield pages of all buckets with the record's rows in them; with `existing`, of those and the rows' own alone."""
    async with aclosing(recorded) as rows:
        if existing is not None:
            all_rows = [row async for some in rows for row in some]
            wanted = sorted(existing | {row[0] for row in all_rows})
            first = 0
            for start in range(0, len(wanted), BUCKETS_A_PAGE):
                buckets = wanted[start : start + BUCKETS_A_PAGE]
                end = bisect_right(all_rows, buckets[-1], first, key=lambda row: row[0])
                yield buckets, all_rows[first:end]
                first = end
            return
        first, page = 0, []
        async for some in rows:
            for row in some:
                while row[0] >= first + BUCKETS_A_PAGE:
                    yield list(range(first, first + BUCKETS_A_PAGE)), page
                    first, page = first + BUCKETS_A_PAGE, []
                page.append(row)
        for start in range(first, key_names.BUCKETS, BUCKETS_A_PAGE):
            yield list(range(start, start + BUCKETS_A_PAGE)), page
            page = []
