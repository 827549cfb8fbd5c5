"""Going through what is kept in buckets, some hundred of them at a time, beside the record's rows in their order."""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Any

from service.formats import key_names
from service.hot.inspection import Looker
from service.reconcile.examination import Examiner
from service.record.partitions import comparisons as record

BUCKETS_A_PAGE = 1024
SMALL = 20_000
"""Of a workspace with no more codes and orders, those buckets are read that are there; of others, all."""
KINDS = "dog"

Found = dict[str, set[int]]
"""Buckets by the kind of their hash."""


async def buckets_of(looker: Looker, small: Collection[int]) -> dict[int, Found]:
    """The buckets that these workspaces have."""
    found: dict[int, Found] = {workspace: {kind: set() for kind in KINDS} for workspace in small}
    if small:
        async for page in looker.walk_keys(set(KINDS)):
            for key in page:
                if key.workspace in found:
                    found[key.workspace][key.kind].add(int(key.parts[0]))
    return found


async def pages(
    examiner: Examiner, name: str, args: tuple[Any, ...], there: set[int] | None
) -> AsyncGenerator[tuple[list[int], list[Any]], None]:
    """Buckets, and the record's rows in them, until all buckets were there; or with `there` those and the rows'."""
    async with (
        examiner.pool.acquire() as connection,
        aclosing(record.stream(connection, name, *args)) as rows,
    ):
        if there is not None:
            told = [row async for some in rows for row in some]
            wanted = sorted(there | {row[0] for row in told})
            place = 0
            for start in range(0, len(wanted), BUCKETS_A_PAGE):
                buckets = wanted[start : start + BUCKETS_A_PAGE]
                first = place
                while place < len(told) and told[place][0] <= buckets[-1]:
                    place += 1
                yield buckets, told[first:place]
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
