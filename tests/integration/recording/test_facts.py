"""Facts in Postgres: each kind of event is recorded once and comes back as it was; what can't be is rejected."""

import contextlib
from itertools import pairwise
from typing import Any

import asyncpg
import msgspec
import pytest

from service.engine.formats.events import SENT, Event, MalformedEvent, RequestPart
from service.engine.formats.key_names import bucket
from service.engine.record.facts import event_writer
from service.engine.record.facts.fact_reader import fact_pages
from service.engine.record.partitions.partition_rows import read_partition
from service.server.in_postgres import history_pages
from tests.integration.recording.flush_fixtures import MakeFlusher, RecordedShop
from tests.integration.recording.record_fixtures import (
    Record,
    assigned,
    make_workspace,
    redeemed,
    rolled_back,
    unassigned,
)

ODD = 'tab\t newline\n return\r backslash \\ quote " \\N \\. end'
TEXTS: dict[str, Any] = {name: ODD for name, field in SENT.items() if not field.is_object}
CLIENT = RequestPart(ip="203.0.113.7", ua=ODD, metadata=msgspec.Raw(b'{"b": 1.0,\t"a":"\\u00e9\\\\ \\n"}'), **TEXTS)
FIRST = redeemed("CODE-1", order="o1", request=CLIENT)
STORY: list[Event] = [
    assigned("CODE-1", request=RequestPart(ua=ODD)),
    FIRST,
    rolled_back(FIRST, request=RequestPart(reason=ODD)),
    unassigned("CODE-1", at_ms=1, request=RequestPart(ip="::1", ua="x\ty")),
    redeemed("CODE-1", user="bob", value_e4=None, currency=None, discount_e4=0),
    assigned("CODE-1", user="bob"),
    unassigned("CODE-1", user="bob"),
    assigned("CODE-1"),
    redeemed("CODE-3", value_e4=10**15 - 1, digits=4, discount_e4=1, max_uses=0),
    redeemed("CODE-5", user="-", order="-", request=RequestPart(ip="-", ua="-")),
    assigned("CODE-6", order="-"),
    unassigned("CODE-6", order="-"),
]
"""Each kind of event, with text that COPY escapes, and a code whose users change."""


async def _stand(kept: Record) -> list[tuple[Any, ...]]:
    sql = "SELECT code, user_id FROM open_assignments ORDER BY code"
    return [tuple(row) for row in await kept.pool.fetch(sql)]


@pytest.mark.parametrize("cuts", [(), (3,), (2, 4, 7), tuple(range(1, len(STORY)))])
async def test_each_fact_is_recorded_once(kept: Record, cuts: tuple[int, ...]):
    """In one batch or several each fact is recorded once, and read back in order and complete; the last user has the
    code."""
    for begin, end in pairwise([0, *cuts, len(STORY)]):
        assert await kept.write(*STORY[begin:end])
    facts = await kept.facts(batch=2)
    expected = [msgspec.structs.replace(event, epoch=kept.epoch, seq=seq) for seq, event in enumerate(STORY, 1)]
    of_first = {"redeemed": (kept.epoch, 2), "discount_e4": FIRST.discount_e4, "redemption_id": kept.id_of(FIRST)}
    of_first["counted_ms"] = FIRST.at_ms
    expected[2] = msgspec.structs.replace(expected[2], **of_first)
    bare = RequestPart()
    assert [msgspec.structs.replace(fact, request=bare) for fact in facts] == [
        msgspec.structs.replace(event, request=bare) for event in expected
    ]
    assert [msgspec.json.encode(fact.request) for fact in facts] == [
        msgspec.json.encode(event.request) for event in expected
    ]
    assert await kept.facts(after=(kept.epoch, 4)) == facts[4:]
    assert await kept.facts(after=(kept.epoch + 1, 0)) == []
    assert await _stand(kept) == [("CODE-1", "user")]
    of_code = "order_id FROM {} WHERE code = 'CODE-1' ORDER BY seq LIMIT 2"
    ended = "SELECT assigned_epoch, assigned_seq, assigned_at, " + of_code.format("unassignments")
    begun = "SELECT epoch, seq, assigned_at, " + of_code.format("assignments")
    assert await kept.pool.fetch(ended) == await kept.pool.fetch(begun)


async def test_facts_are_read_from_a_snapshot(kept: Record):
    """Facts recorded during a read are not part of it."""
    await kept.write(*(assigned(f"CODE-{i}") for i in range(10)))
    async with kept.pool.acquire() as connection, contextlib.aclosing(fact_pages(connection, 0, batch=2)) as pages:
        seen = await anext(pages)
        await kept.write(assigned("LATER"))
        seen += [fact async for page in pages for fact in page]
    assert [fact.seq for fact in seen] == list(range(1, 11))


@pytest.mark.parametrize(("wrong", "by"), [("epoch", -1), ("fence", -1), ("seq", 1), ("seq", -1)])
async def test_only_the_right_cursor_writes(kept: Record, wrong: str, by: int):
    """With another epoch, cursor or fence nothing is written and nothing moves."""
    assert await kept.write(assigned("CODE-1"))
    before = await read_partition(kept.pool, 0)
    setattr(kept, wrong, getattr(kept, wrong) + by)
    assert not await kept.write(assigned("CODE-2"))
    assert await read_partition(kept.pool, 0) == before
    assert len(await kept.facts()) == 1


INVALID: list[dict[str, Any]] = [
    {"discount_e4": 1_000_100},
    {"discount_e4": -100},
    {"value_e4": None},
    {"value_e4": -100, "discount_e4": 0},
    {"value_e4": 1_000_001},
    {"digits": 5},
    {"currency": "DOLLAR"},
    {"order": "o", "slot": 0},
    {"value_e4": 10**15},
    {"book": 2**31},
    {"request": RequestPart(metadata=msgspec.Raw(b"[1]"))},
    {"request": RequestPart(ua="\0")},
]


async def test_what_the_schema_rejects(kept: Record):
    """The schema rejects a batch with an invalid redemption as an error about data. A tab or a line's end in a field is
    rejected before anything is written. There is no fact, and the cursor stays."""
    for bad in INVALID:
        with pytest.raises((asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)):
            await kept.write(assigned(), redeemed(**bad))
    for code in ("A\tB", "A\nB", "A\\tB"):
        with pytest.raises(MalformedEvent):
            await kept.write(redeemed("FINE"), redeemed(code))
    assert (await read_partition(kept.pool, 0)).cursor == (kept.epoch, 0)
    assert await kept.facts() == []


USES = [redeemed(), redeemed(), redeemed()]
ORDERS = [redeemed(code, order="o") for code in ("P1", "P2")]


@pytest.mark.parametrize("together", [True, False])
async def test_what_can_be_once(kept: Record, together: bool):
    """A code has one user at a time, a use and a place in an order are taken once, and a rollback is once; taken back,
    they are free, unless the rollback restores nothing."""
    for good, bad in (
        ([assigned("A")], assigned("A", user="other")),
        ([ORDERS[0], redeemed("P3", order="o", slot=2), redeemed("P4", order="other")], ORDERS[1]),
        ([rolled_back(ORDERS[0]), ORDERS[1]], rolled_back(ORDERS[0])),
        ([USES[0], rolled_back(USES[0]), USES[1]], USES[2]),
        ([rolled_back(USES[1], restore=False), redeemed("OTHER")], USES[2]),
        ([redeemed("MULTI", max_uses=2), redeemed("MULTI", max_uses=2)], redeemed("OTHER")),
    ):
        for batch in [good] if together else [[event] for event in good]:
            assert await kept.write(*batch)
        with pytest.raises(asyncpg.UniqueViolationError):
            await kept.write(bad)
    with pytest.raises(asyncpg.UniqueViolationError):
        await kept.write(redeemed("X"), redeemed("X"))


async def test_a_batch_that_would_hide_a_conflict_is_undecided(kept: Record):
    """Events of one code in an impossible order, and a later event that would hide a conflict, raise
    `NeedsSmallerBatch`."""
    first = redeemed(order="o")
    await kept.write(first, assigned(user="ann"))
    for events in (
        [redeemed("X", order="o"), rolled_back(first)],
        [redeemed(), rolled_back(first)],
        [x := redeemed("X"), redeemed("X"), rolled_back(x)],
        [a := redeemed("X", order="p", max_uses=0), redeemed("X", order="p", max_uses=0), rolled_back(a)],
        [assigned(), assigned()],
        [assigned("X"), assigned("X"), unassigned("X")],
        [assigned("X"), unassigned("X", user="ann")],
        [assigned("X"), unassigned("X"), unassigned("X")],
        [unassigned(user="ann"), unassigned(user="ann")],
        [assigned(), unassigned(user="ann")],
        [assigned(user="ann"), unassigned(user="ann")],
    ):
        with pytest.raises(event_writer.NeedsSmallerBatch):
            await kept.write(*events)
    assert len(await kept.facts()) == 2


async def test_a_code_without_its_user_is_not_unassigned(kept: Record):
    """An unassign of a code that was never assigned, is unassigned, or is another user's raises `NotAssigned`. A code
    belongs to the owner of its upload until the first one."""
    await _own(kept, "MINE-1", "MINE-2")
    await kept.write(assigned("GONE"), unassigned("GONE"), assigned("HERS", user="ann"))
    for good, bad in (
        ([], [unassigned("NEVER"), assigned("OTHER")]),
        ([], [unassigned("GONE"), assigned("OTHER")]),
        ([], [unassigned("HERS"), assigned("OTHER")]),
        ([], [unassigned("MINE-1", user="bob")]),
        ([unassigned("MINE-1", user="ann")], [unassigned("MINE-1", user="ann")]),
        ([unassigned("MINE-2", user="ann"), assigned("MINE-2", user="ann"), unassigned("MINE-2", user="ann")],
         [unassigned("MINE-2", user="ann")]),
        ([assigned("MINE-1", user="bob")], [unassigned("MINE-1", user="ann")]),
    ):  # fmt: skip
        if good:
            assert await kept.write(*good)
        with pytest.raises(event_writer.NotAssigned):
            await kept.write(*bad)
    assert await _stand(kept) == [("HERS", "ann"), ("MINE-1", "bob")]


async def _own(kept: Record, *codes: str) -> None:
    """Insert codes with the owner ann."""
    await make_workspace(kept.pool)
    await kept.pool.execute(
        "INSERT INTO codes (version, workspace, book, partition, code, owner_id) "
        "SELECT 1, 1, 2, 0, code, 'ann' FROM unnest($1::text[]) AS codes (code)",
        codes,
    )


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
