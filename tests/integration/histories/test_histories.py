"""Histories: redemptions and coupons as merchants read them, a page at a time, on a real Postgres."""

from typing import Any
from uuid import UUID

import msgspec

from service.engine.formats.events import RequestPart
from service.server.in_postgres import history_pages
from tests.integration.recording.record_fixtures import (
    EVENT_MS,
    Record,
    assigned,
    make_workspace,
    redeemed,
    rolled_back,
)


async def test_histories_are_paged(kept: Record):
    """Pages list the redemptions of a book, user or code newest first, each once."""
    await make_workspace(kept.pool)
    uses = [redeemed(f"CODE-{i % 3}", max_uses=0, user=f"u{i % 2}", book=2 + i % 2) for i in range(30)]
    await kept.write(*uses, rolled_back(uses[4]))
    ids = [UUID(kept.id_of(use)) for use in uses]
    cases: list[tuple[Any, Any, list[UUID]]] = [
        (history_pages.redemptions_of_book, 2, ids[::2]),
        (history_pages.redemptions_of_user, "u1", ids[1::2]),
        (history_pages.redemptions_of_code, "CODE-2", ids[2::3]),
    ]
    for read, whose, expected in cases:
        items, cursor = [], None
        while not items or cursor is not None:
            page = await read(kept.pool, 1, whose, 4, cursor)
            assert 0 < len(page.items) <= 4
            items += page.items
            cursor = page.next_cursor
        assert [item.redemption_id for item in items] == expected[::-1]
        assert (await read(kept.pool, 2, whose, 4, None)).items == []


async def test_one_redemption(kept: Record):
    """A redemption has its book's id, its amounts in 10⁻⁴ units, and its rollback."""
    book_id = await make_workspace(kept.pool)
    use = redeemed(order="o", request=RequestPart(ip="::1", metadata=msgspec.Raw(b'{"a":1}')))
    await kept.write(use)
    redemption = await history_pages.redemption(kept.pool, 1, UUID(kept.id_of(use)))
    assert redemption is not None
    assert (redemption.book_id, redemption.value_e4, redemption.discount_e4) == (book_id, 1_000_000, 250_000)
    assert (redemption.redeemed_at_ms, redemption.rolled_back_at_ms) == (EVENT_MS, None)
    assert msgspec.structs.asdict(redemption)["metadata"] == '{"a":1}'
    await kept.write(rolled_back(use))
    again = await history_pages.redemption(kept.pool, 1, UUID(kept.id_of(use)))
    assert again == msgspec.structs.replace(redemption, rolled_back_at_ms=EVENT_MS + 5)
    assert await history_pages.redemption(kept.pool, 2, UUID(kept.id_of(use))) is None


async def test_coupons_of_a_user(kept: Record):
    """A user's coupons are the assigned ones and those given at upload, newest first, each once."""
    await make_workspace(kept.pool)
    await kept.pool.execute("""
        INSERT INTO codes (version, workspace, book, partition, code, owner_id, created_at)
        SELECT 1, 1, 2, 0, 'OWNED-' || i, 'user', to_timestamp(1000 + i) FROM generate_series(1, 5) i""")
    await kept.write(*(assigned(f"CODE-{i}", at_ms=1_003_000) for i in range(5)), assigned("OWNED-5", at_ms=1))
    items, cursor = [], None
    while not items or cursor is not None:
        page = await history_pages.coupons_of_user(kept.pool, 1, "user", 3, cursor)
        items += page.items
        cursor = page.next_cursor
    owned, codes = [f"OWNED-{i}" for i in range(6)], [f"CODE-{i}" for i in range(4, -1, -1)]
    assert [item.code for item in items] == [owned[4], owned[3], *codes, owned[2], owned[1], owned[5]]
    assert {item.book for item in items} == {2}
