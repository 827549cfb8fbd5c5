"""Remove ended locks, for lock_sweeper.py and inspection.py."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from service.engine.formats import key_names
from service.engine.formats.key_names import Key
from service.engine.hot.projection import Run
from service.engine.hot.redis_server import Server

MOST_SWEEPS = 1000

Contain = Callable[[Key], AbstractAsyncContextManager[None]]
"""Makes a block that keeps an error at one set of locks from the others."""


async def sweep_locks(server: Server, run: Run, contain: Contain) -> int:
    """Remove locks that have ended from all coupons of the partition. Returns the number of coupons."""
    swept = 0
    async for page in server.walk_keys({"l"}):
        for key in page:
            book, name = key.parts
            if name == "x":  # free codes by their own expiry, not locks
                continue
            async with contain(key):
                swept += await sweep_set(server, run, key.workspace, book, name)
    return swept


async def sweep_book(server: Server, run: Run, workspace: int, book: str) -> int:
    """Remove locks of one book that have expired, and what they held of its budgets."""
    return sum([await sweep_set(server, run, workspace, book, name) for name in ("b", *key_names.SETS_OF_LOCKS)])


async def sweep_set(server: Server, run: Run, workspace: int, book: str, name: str) -> int:
    """Remove locks of one of a book's sets. Returns the number of coupons."""
    names = (server.gate, key_names.settings(key_names.prefix(server.partition, workspace)))
    swept = 0
    for _ in range(MOST_SWEEPS):
        _, coupons, more = await run(server.partition, "sweep_locks", names, (book, name))
        swept += coupons
        if not more:
            break
    return swept
