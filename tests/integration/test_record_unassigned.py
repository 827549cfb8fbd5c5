"""Assignments that were taken back, recorded, on a real Postgres: each is one user's at a time, each event once."""

from itertools import pairwise
from typing import Any

import asyncpg
import msgspec
import pytest

from service.formats.events import Event, RequestPart
from service.formats.key_names import bucket
from service.record.facts import event_writer, history_pages
from tests.integration.flush_fixtures import MakeFlusher, Shop
from tests.integration.record_fixtures import (
    NOW_MS,
    Record,
    assigned,
    make_workspace,
    unassigned,
)

CUTS = pytest.mark.parametrize("cuts", [(), (1,), (2,), (3,), (4,), (1, 3), (2, 4), (1, 2, 3, 4)])
STORY = [
    assigned(user="ann", at_ms=NOW_MS),
    unassigned(user="ann", at_ms=NOW_MS + 1, request=RequestPart(ip="::1", ua="x\ty")),
    assigned(user="bob", at_ms=NOW_MS + 2),
    unassigned(user="bob", at_ms=NOW_MS + 3),
    assigned(user="ann", at_ms=NOW_MS + 4),
]


async def _write(kept: Record, events: list[Event], cuts: tuple[int, ...]) -> None:
    """Record them in batches that end there."""
    for begin, end in pairwise([0, *cuts, len(events)]):
        assert await kept.write(*events[begin:end])


async def _own(kept: Record, *codes: str) -> None:
    """Codes that the merchant made ann's."""
    await make_workspace(kept.pool)
    await kept.pool.execute(
        "INSERT INTO codes (version, workspace, book, partition, code, owner_id) "
        "SELECT 1, 1, 2, 0, code, 'ann' FROM unnest($1::text[]) AS codes (code)",
        codes,
    )


async def _stand(kept: Record) -> list[tuple[Any, ...]]:
    facts = "SELECT code, user_id FROM assignments WHERE unassigned_at IS NULL ORDER BY code"
    return [tuple(row) for row in await kept.pool.fetch(facts)]


@CUTS
async def test_what_was_given_and_taken_comes_back_in_its_order(kept: Record, cuts: tuple[int, ...]):
    """In one batch or several, each fact is there once, with its own epoch and number; the last user has the code."""
    await _write(kept, [*STORY], cuts)
    facts = await kept.facts()
    expected = [msgspec.structs.replace(event, epoch=kept.epoch, seq=seq) for seq, event in enumerate(STORY, 1)]
    bare = RequestPart()
    assert [msgspec.structs.replace(fact, request=bare) for fact in facts] == [
        msgspec.structs.replace(event, request=bare) for event in expected
    ]
    assert (facts[1].request.ip, facts[1].request.ua) == ("::1", "x\ty")
    assert await kept.facts(after=(kept.epoch, 3)) == facts[3:]
    assert await _stand(kept) == [("CODE", "ann")]
    ends = await kept.pool.fetch(
        "SELECT (extract(epoch FROM unassigned_at) * 1000)::bigint FROM assignments ORDER BY seq"
    )
    assert [row[0] for row in ends] == [NOW_MS + 1, NOW_MS + 3, None]


@CUTS
async def test_after_it_the_code_is_still_one_users(kept: Record, cuts: tuple[int, ...]):
    """Another's assignment is refused, and so is one that is taken back at once, which would leave no trace."""
    await _write(kept, [*STORY], cuts)
    with pytest.raises(asyncpg.UniqueViolationError):
        await kept.write(assigned(user="cat"))
    for user in ("ann", "cat"):
        with pytest.raises(event_writer.Undecided):
            await kept.write(assigned(user=user), unassigned(user=user))
    assert len(await kept.facts()) == 5


async def test_what_is_nobodys_cant_be_taken(kept: Record):
    """A code that was never given, or taken before, or is another's."""
    await kept.write(assigned("GONE"), unassigned("GONE"), assigned("HERS", user="ann"))
    for code in ("NEVER", "GONE", "HERS"):
        with pytest.raises(event_writer.NotAssigned):
            await kept.write(unassigned(code), assigned("OTHER"))
    assert await _stand(kept) == [("HERS", "ann")]


async def test_what_one_batch_would_hide_is_undecided(kept: Record):
    """Events of a code in an order that can't have been."""
    await kept.write(assigned(user="ann"))
    for events in (
        [assigned(), assigned()],
        [assigned("X"), assigned("X"), unassigned("X")],
        [assigned("X"), unassigned("X", user="ann")],
        [assigned("X"), unassigned("X"), unassigned("X")],
        [unassigned(user="ann"), unassigned(user="ann")],
        [assigned(), unassigned(user="ann")],
    ):
        with pytest.raises(event_writer.Undecided):
            await kept.write(*events)
    assert len(await kept.facts()) == 1


async def test_an_owner_given_at_upload_is_taken_once(kept: Record):
    """Without an assignment the code is the owner's that was uploaded, until it was taken back."""
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


async def test_a_users_coupons_are_those_that_were_not_taken(kept: Record):
    """What was assigned or uploaded as the user's and taken back isn't in the list; what was given again is, once."""
    await _own(kept, "MINE-1", "MINE-2", "MINE-3")
    await kept.write(assigned("CODE-1", user="ann"), assigned("CODE-2", user="ann"), unassigned("MINE-1", user="ann"))
    await kept.write(unassigned("CODE-1", user="ann"), unassigned("MINE-2", user="ann"))
    await kept.write(assigned("MINE-2", user="ann", at_ms=1), assigned("CODE-1", user="bob"))
    page = await history_pages.coupons_of_user(kept.pool, 1, "ann", 10, None)
    assert sorted(item.code for item in page.items) == ["CODE-2", "MINE-2", "MINE-3"]
    page = await history_pages.coupons_of_user(kept.pool, 1, "bob", 10, None)
    assert [item.code for item in page.items] == ["CODE-1"]


def _said(kind: str, code: str, user: str, at: int) -> str:
    return f"{kind} 1 2 {code} {user} {1_794_991_234_567 + at} {bucket(code)}"


async def test_the_worker_records_it_once_and_sets_aside_what_cant_be(shop: Shop, make_flusher: MakeFlusher):
    """Of a batch in which one code was given twice and another taken twice, all is recorded but those two events; a
    second flusher from the same place records nothing again."""
    good = [_said("AU"[n % 2], f"CODE-{n % 50 // 2}", f"u{n // 50}", n) for n in range(200)]
    await shop.append(*good[:100], _said("A", "TWICE", "ann", 1), _said("A", "TWICE", "bob", 2), *good[100:])
    await shop.append(_said("U", "NOBODYS", "ann", 3), _said("U", "TWICE", "bob", 4), _said("U", "TWICE", "ann", 5))
    flusher = await make_flusher()
    await flusher.start()
    while await flusher.step():
        pass
    bad = {_said("A", "TWICE", "bob", 2), _said("U", "NOBODYS", "ann", 3), _said("U", "TWICE", "bob", 4)}
    assert {row[3].decode() for row in await shop.quarantined()} == bad
    assert await shop.facts() == [event for event in shop.said if event not in bad]
    again = await make_flusher()
    await again.start()
    assert await again.step() == 0
    assert await shop.pool.fetchval("SELECT count(*) FROM unassignments") == 101
