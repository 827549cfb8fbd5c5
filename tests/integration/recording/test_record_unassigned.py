"""Unassignments in a real Postgres: a code has one user at a time, and each event is recorded once."""

from itertools import pairwise
from typing import Any

import asyncpg
import msgspec
import pytest

from service.engine.formats.events import Event, RequestPart
from service.engine.formats.key_names import bucket
from service.engine.record.facts import event_writer
from service.server.record import history_pages
from tests.integration.recording.flush_fixtures import MakeFlusher, RecordedShop
from tests.integration.recording.record_fixtures import (
    EVENT_MS,
    Record,
    assigned,
    make_workspace,
    redeemed,
    rolled_back,
    unassigned,
)

STORY: list[Event] = [
    assigned(user="ann", at_ms=EVENT_MS),
    unassigned(user="ann", at_ms=EVENT_MS + 1, request=RequestPart(ip="::1", ua="x\ty")),
    assigned(user="bob", at_ms=EVENT_MS + 2),
    unassigned(user="bob", at_ms=EVENT_MS + 3),
    assigned(user="ann", at_ms=EVENT_MS + 4),
]


async def _own(kept: Record, *codes: str) -> None:
    """Insert codes with the owner ann."""
    await make_workspace(kept.pool)
    await kept.pool.execute(
        "INSERT INTO codes (version, workspace, book, partition, code, owner_id) "
        "SELECT 1, 1, 2, 0, code, 'ann' FROM unnest($1::text[]) AS codes (code)",
        codes,
    )


async def _stand(kept: Record) -> list[tuple[Any, ...]]:
    sql = "SELECT code, user_id FROM open_assignments ORDER BY code"
    return [tuple(row) for row in await kept.pool.fetch(sql)]


@pytest.mark.parametrize("cuts", [(), (1,), (2,), (3,), (4,), (1, 3), (2, 4), (1, 2, 3, 4)])
async def test_each_fact_is_recorded_once(kept: Record, cuts: tuple[int, ...]):
    """In one batch or several each fact is recorded once, in order; the last user has the code, another fails."""
    for begin, end in pairwise([0, *cuts, len(STORY)]):
        assert await kept.write(*STORY[begin:end])
    facts = await kept.facts()
    bare = RequestPart()
    assert [msgspec.structs.replace(fact, request=bare) for fact in facts] == [
        msgspec.structs.replace(event, epoch=kept.epoch, seq=seq, request=bare) for seq, event in enumerate(STORY, 1)
    ]
    assert (facts[1].request.ip, facts[1].request.ua) == ("::1", "x\ty")
    assert await kept.facts(after=(kept.epoch, 3)) == facts[3:]
    assert await _stand(kept) == [("CODE", "ann")]
    ended = "SELECT assigned_epoch, assigned_seq, assigned_at, order_id FROM unassignments ORDER BY seq"
    begun = "SELECT epoch, seq, assigned_at, order_id FROM assignments ORDER BY seq LIMIT 2"
    assert await kept.pool.fetch(ended) == await kept.pool.fetch(begun)
    with pytest.raises(asyncpg.UniqueViolationError):
        await kept.write(assigned(user="cat"))
    for user in ("ann", "cat"):
        with pytest.raises(event_writer.NeedsSmallerBatch):
            await kept.write(assigned(user=user), unassigned(user=user))
    assert len(await kept.facts()) == 5


async def test_a_code_without_its_user_is_not_unassigned(kept: Record):
    """An unassign of a code that was never assigned, is unassigned, or is another user's raises `NotAssigned`."""
    await kept.write(assigned("GONE"), unassigned("GONE"), assigned("HERS", user="ann"))
    for code in ("NEVER", "GONE", "HERS"):
        with pytest.raises(event_writer.NotAssigned):
            await kept.write(unassigned(code), assigned("OTHER"))
    assert await _stand(kept) == [("HERS", "ann")]


async def test_impossible_orders_are_undecided(kept: Record):
    """Events of one code in an impossible order, in one batch, raise `NeedsSmallerBatch`."""
    await kept.write(assigned(user="ann"))
    for events in (
        [assigned(), assigned()],
        [assigned("X"), assigned("X"), unassigned("X")],
        [assigned("X"), unassigned("X", user="ann")],
        [assigned("X"), unassigned("X"), unassigned("X")],
        [unassigned(user="ann"), unassigned(user="ann")],
        [assigned(), unassigned(user="ann")],
    ):
        with pytest.raises(event_writer.NeedsSmallerBatch):
            await kept.write(*events)
    assert len(await kept.facts()) == 1


async def test_an_owner_given_at_upload_is_taken_once(kept: Record):
    """A code without an assignment belongs to its uploaded owner until the first unassign."""
    await _own(kept, "MINE-1", "MINE-2")
    with pytest.raises(event_writer.NotAssigned):
        await kept.write(unassigned("MINE-1", user="bob"))
    await kept.write(unassigned("MINE-1", user="ann"))
    with pytest.raises(event_writer.NotAssigned):
        await kept.write(unassigned("MINE-1", user="ann"))
    await kept.write(unassigned("MINE-2", user="ann"), assigned("MINE-2", user="ann"), unassigned("MINE-2", user="ann"))
    with pytest.raises(event_writer.NotAssigned):
        await kept.write(unassigned("MINE-2", user="ann"))
    await kept.write(assigned("MINE-1", user="bob"))
    assert await _stand(kept) == [("MINE-1", "bob")]


async def test_unassigned_codes_leave_the_list(kept: Record):
    """The list of a user's coupons skips unassigned codes, and has a code that was assigned again once."""
    await _own(kept, "MINE-1", "MINE-2", "MINE-3")
    await kept.write(assigned("CODE-1", user="ann"), assigned("CODE-2", user="ann"), unassigned("MINE-1", user="ann"))
    await kept.write(unassigned("CODE-1", user="ann"), unassigned("MINE-2", user="ann"))
    await kept.write(assigned("MINE-2", user="ann", at_ms=1), assigned("CODE-1", user="bob"))
    page = await history_pages.coupons_of_user(kept.pool, 1, "ann", 10, None)
    assert sorted(item.code for item in page.items) == ["CODE-2", "MINE-2", "MINE-3"]
    page = await history_pages.coupons_of_user(kept.pool, 1, "bob", 10, None)
    assert [item.code for item in page.items] == ["CODE-1"]


def _event(kind: str, code: str, user: str, at: int) -> str:
    return f"{kind} 1 2 {code} {user} {1_794_991_234_567 + at} {bucket(code)}"


async def test_the_worker_records_once_and_quarantines_the_rest(shop: RecordedShop, make_flusher: MakeFlusher):
    """A second assign, and unassigns of codes that the user lacks, are quarantined; all else is recorded once."""
    good = [_event("AU"[n % 2], f"CODE-{n % 50 // 2}", f"u{n // 50}", n) for n in range(200)]
    await shop.append(*good[:100], _event("A", "TWICE", "ann", 1), _event("A", "TWICE", "bob", 2), *good[100:])
    await shop.append(_event("U", "NOBODYS", "ann", 3), _event("U", "TWICE", "bob", 4), _event("U", "TWICE", "ann", 5))
    flusher = await make_flusher()
    await flusher.start()
    while await flusher.step():
        pass
    bad = {_event("A", "TWICE", "bob", 2), _event("U", "NOBODYS", "ann", 3), _event("U", "TWICE", "bob", 4)}
    assert {row[3].decode() for row in await shop.quarantined()} == bad
    assert await shop.facts() == [event for event in shop.appended if event not in bad]
    again = await make_flusher()
    await again.start()
    assert await again.step() == 0
    assert await shop.pool.fetchval("SELECT count(*) FROM unassignments") == 101


async def test_redemptions_between_dont_matter(kept: Record):
    """One batch can have a redemption, its rollback and the unassign of one code."""
    use = redeemed("CODE", user="ann")
    events = [assigned(user="ann"), use, rolled_back(use), unassigned(user="ann"), redeemed("CODE", user="bob")]
    await kept.write(*events)
    assert [type(fact) for fact in await kept.facts()] == [type(event) for event in events]
