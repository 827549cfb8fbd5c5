"""The demo workspaces of `scrip run`: `demo`, with a book and a memorable code for each case, and `rival`.
local_service.py seeds them, demo.py resets them, exposure.py knows the keys. README, pages and tests name the codes and
keys: add some, but rename none."""

import contextlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from service.engine.domain.decoding import convert
from service.engine.operations.caller import SCOPES
from service.engine.record.partitions.partition_rows import ensure_partitions
from service.engine.record.pool import connect
from service.server.in_postgres.book_rows import create_book, page_books
from service.server.in_postgres.code_rows import add_codes, patch_coupon
from service.server.in_postgres.key_rows import SecretTaken, create_key, page_keys
from service.server.in_postgres.workspace_rows import create_workspace, read_workspace, workspace_named
from service.server.requests.book_requests import CreateBook
from service.server.requests.code_requests import CodeLine

_DEMO_KEYS = {scope: (scope,) for scope in SCOPES} | {"admin": SCOPES}
_RIVAL_KEYS = {scope: (scope,) for scope in ("checkout", "manage")}
SECRETS = (*(f"demo_{key}" for key in _DEMO_KEYS), *(f"rival_{key}" for key in _RIVAL_KEYS))
"""The fixed demo keys, which are public."""
IDS = {
    "demo": UUID("01980000-0000-7000-8000-000000000001"),
    "rival": UUID("01980000-0000-7000-8000-000000000000"),
}
"""Fixed, and so chosen that with four partitions, as in tests, `demo` is in the last and `rival` in another."""

PARTITIONS = 1
"""Partitions of a new database of `scrip run`, which has one Redis on one machine."""

EXPIRED_AT = f"{datetime.now(UTC) - timedelta(days=30):%Y-%m-%d}T00:00:00Z"
"""When the expired book ended: lately, so that it is not archived."""
_TWENTY = {"type": "percentage", "value": 20, "maxAmount": 50}
_FIVE = {"type": "fixed", "value": 5, "minOrderValue": 25}
_TIERS = [
    {"from": 50, "type": "percentage", "value": 5},
    {"from": 100, "type": "percentage", "value": 10},
    {"from": 200, "type": "fixed", "value": 30},
]

_GIFTS = "Gift cards"
_OFF = "OFF-1"

BookSeed = tuple[dict[str, Any], Sequence[CodeLine]]
"""The fields of a book, and its codes. `giftBookId` is the name of an earlier book."""


def _book(name: str, *codes: str, **fields: Any) -> BookSeed:
    return fields | {"name": name}, [CodeLine(code) for code in codes]


_DEMO: tuple[BookSeed, ...] = (
    _book(
        _GIFTS,
        description="What a purchase with a code of the summer or the flash sale gives",
        discount={"type": "fixed", "value": 10},
        codePattern="GIFT-####-####",
        totalCodes=500,
    ),
    _book(
        "Flash sale",
        discount=_TWENTY,
        maxCodesPerUser=1,
        codePattern="FLASH-######",
        totalCodes=1000,
        giftBookId=_GIFTS,
    ),
    _book(
        "Summer 2026",
        "SUMMER-2026",
        "SUMMER-A",
        "SUMMER-B",
        discount=_TWENTY,
        tags=["summer"],
        giftBookId=_GIFTS,
    ),
    _book(
        "Welcome",
        "WELCOME10",
        description="Any number of users, each once",
        discount={"type": "percentage", "value": 10},
        maxRedemptionsPerCode=None,
        maxRedemptionsPerUser=1,
    ),
    _book("Five off from 25", "FIVE-1", "FIVE-2", "FIVE-3", discount=_FIVE),
    _book("The first three", "FIRST-3", discount=_FIVE, maxRedemptionsPerCode=None, maxRedemptions=3),
    _book("The more the cheaper", "TIERED-1", discount={"type": "tiered", "tiers": _TIERS}, maxRedemptionsPerCode=None),
    _book("Three for two", "BUY2GET1", discount={"type": "buyXGetY", "buy": 2, "get": 1}, maxRedemptionsPerCode=None),
    _book("Expired", "EXPIRED-1", discount=_TWENTY, validUntil=EXPIRED_AT),
    _book("Not started", "EARLY-1", discount=_TWENTY, validFrom="2036-01-01T00:00:00Z"),
    _book("From 500 on", "BIG-500", discount=_TWENTY | {"minOrderValue": 500}),
    _book("In euros", "EURO-1", discount=_FIVE | {"currency": "EUR"}),
    _book("Switched off", _OFF, discount=_TWENTY),
    _book("Inactive", "PAUSED-1", discount=_TWENTY, status="inactive"),
    _book("Lock first", "LOCKED-1", "LOCKED-2", discount=_TWENTY, requireLock=True),
    (
        {"name": "For its owner", "discount": _TWENTY, "requireAssignment": True},
        [CodeLine("OWNED-1"), CodeLine("ALICE-1", owner_id="alice")],
    ),
)
_RIVAL: tuple[BookSeed, ...] = (_book("Rival's own", "RIVAL-1", "WELCOME10", discount=_FIVE),)

_SEEDS = {"demo": _DEMO, "rival": _RIVAL}


def list_seeded_books(workspace: str) -> dict[str, frozenset[str]]:
    """The names of the workspace's books, in the order in which they are made, and their codes that have an owner."""
    return {
        fields["name"]: frozenset(line.code for line in lines if line.owner_id is not None)
        for fields, lines in _SEEDS[workspace]
    }


async def seed(database_url: str) -> None:
    """Create the missing workspaces in Postgres. The worker projects them into Redis."""
    async with await connect(database_url, name="scrip demo", max_size=2) as pool:
        await ensure_partitions(pool, None, PARTITIONS)
        await _seed_workspace(pool, "demo", _DEMO_KEYS)
        await _seed_workspace(pool, "rival", _RIVAL_KEYS)


async def _seed_workspace(pool: asyncpg.Pool, name: str, keys: Mapping[str, Sequence[str]]) -> None:
    """Complete one workspace. One transaction at the end creates all keys: with keys, a workspace is complete."""
    number = await workspace_named(pool, name)
    async with pool.acquire() as connection:
        row = await (
            create_workspace(connection, name, workspace_id=IDS[name])
            if number is None
            else read_workspace(connection, number)
        )
    if await page_keys(pool, row.workspace, 1, None):
        return
    books = {book.name: book for book in await page_books(pool, row.workspace, 1000)}
    for fields, lines in _SEEDS[name]:
        book = books.get(fields["name"])
        if book is None:
            gift = {"giftBookId": str(books[fields["giftBookId"]].book_id)} if "giftBookId" in fields else {}
            book, _ = await create_book(pool, row.workspace, row.partition, convert(fields | gift, CreateBook))
            books[book.name] = book
        if lines:
            await add_codes(pool, row.workspace, row.partition, book.book, lines)
        if any(line.code == _OFF for line in lines):
            await patch_coupon(pool, row.workspace, row.partition, _OFF, {"active": False})
    async with pool.acquire() as connection, connection.transaction():
        for key, scopes in keys.items():
            with contextlib.suppress(SecretTaken):  # also by a revoked key
                await create_key(connection, row.workspace, key, scopes, f"{name}_{key}")
