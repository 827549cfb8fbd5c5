"""A worker's retirer on the partition of opening_fixtures.py, and what clients see of a book's codes."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest

from service.domain.book_requests import PatchBook
from service.domain.configuration import BookRow
from service.domain.decoding import convert
from service.domain.errors import Refusal
from service.domain.times import from_ms
from service.hot.decider import Reply
from service.hot.inspection import RedisInspector
from service.hot.projection import RedisProjector
from service.hot.scripts import Scripts
from service.operations import assign, coupon_view, lock, redeem
from service.record.config.book_rows import patch_book, read_books
from service.record.partitions.partition_rows import read_partition
from service.worker.moving.book_retirer import BookRetirer
from service.worker.moving.guarded_changes import GuardedChanges
from tests.integration.opening.opening_fixtures import Life, Place
from tests.integration.recording.record_fixtures import take_partition
from tests.reaching import reach

DAY_MS = 86_400_000
CODES = ("CODE-1", "CODE-2", "CODE-3", "CODE-5", "CODE-8", "CODE-50", "CODE-99")
"""Assigned; rolled back, with and without its use; redeemed; assigned anew; idle; redeemed with a gift."""
_NOBODY = {"userId": "nobody", "orderValue": "1.00"}


async def end_book(place: Place, days: int, book: int = 1) -> BookRow:
    """Set the book's end so many days ago; negative: from now."""
    row = await read_book_row(place, book)
    at_ms = time.time_ns() // 1_000_000 - days * DAY_MS
    request = convert({"validUntil": from_ms(at_ms)}, PatchBook)
    changed = await patch_book(place.pool, row.workspace, 0, row.book_id, request)
    projector = RedisProjector(place.decider.run)
    await projector.book(changed)
    await projector.seen(0, changed.version)
    return changed


async def read_book_row(place: Place, book: int = 1) -> BookRow:
    return (await read_books(place.pool, place.caller.workspace, [book]))[0]


class DyingInspector(RedisInspector):
    """A worker's connection, which breaks before its n-th script."""

    life = Life()

    async def run(self, scripts: Scripts, script: str, names: Sequence[str], args: Sequence[Any]) -> Reply:
        self.life.step()
        return await super().run(scripts, script, names, args)


@asynccontextmanager
async def start_changes(place: Place, dies_after: int = -1) -> AsyncIterator[GuardedChanges]:
    """A new worker's changes, whose connection breaks after so many scripts."""
    fence = await take_partition(place.pool)
    row = await read_partition(place.pool, 0)
    connection = await reach(place.valkey_url)
    inspector = DyingInspector(connection, 0, row.epoch, row.nonce)
    with closing(connection):
        await inspector.start()
        inspector.life = Life(dies_after)
        yield GuardedChanges(place.pool, inspector, fence, asyncio.Lock(), asyncio.Lock())


@asynccontextmanager
async def retiring(place: Place, dies_after: int = -1) -> AsyncIterator[BookRetirer]:
    """A new worker's retirer, which dies after so many scripts; it retires books that ended 30 days ago."""
    async with start_changes(place, dies_after) as changes:
        yield BookRetirer(changes, 30)


async def move(place: Place, dies_after: int = -1) -> str | None:
    """Let a worker move one book; return where the first book is then."""
    async with retiring(place, dies_after) as retirer:
        await retirer.move_next()
    return await where_is(place)


async def where_is(place: Place, book: int = 1) -> str | None:
    return await place.pool.fetchval("SELECT retirement FROM books WHERE book = $1", book)


async def refusal(place: Place, *request: Any, **body: Any) -> str:
    with pytest.raises(Refusal) as caught:
        await place.do(*request, **body)
    return caught.value.code


async def answers(place: Place, *codes: str) -> dict[str, Any]:
    """What each request about these codes answers: a body, or the code of a refusal."""
    seen: dict[str, Any] = {}
    for code in codes or (*CODES, "UNKNOWN-1"):
        requests = {
            "lock": (lock.LOCK, {"userId": "nobody"}),
            "redeem": (redeem.REDEEM, _NOBODY),
            "assign": (assign.ASSIGN_CODE, {"userId": "ann"}),
            "extend": (lock.EXTEND, {"lockToken": "0" * 32}),
            "unlock": (lock.UNLOCK, {"lockToken": "0" * 32}),
            "validate": (redeem.VALIDATE, _NOBODY | {"code": code}),
            "read": (coupon_view.READ, {}),
        }
        for name, (operation, body) in requests.items():
            try:
                seen[f"{name} {code}"] = await place.do(operation, code, **body)
            except Refusal as refusal:
                seen[f"{name} {code}"] = refusal.code
    return seen
