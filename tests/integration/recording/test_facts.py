"""Facts in Postgres: what is recorded of each event, and what the schema rejects."""

import contextlib
from collections.abc import Iterable
from typing import Any

import asyncpg
import msgspec
import pytest

from service.engine.formats.events import Event, MalformedEvent, RequestPart
from service.engine.record.facts import event_writer
from service.engine.record.facts.fact_reader import fact_pages
from service.engine.record.partitions.partition_rows import read_partition
from tests.integration.recording.record_fixtures import Record, assigned, redeemed, rolled_back


async def test_facts_come_back_as_they_were(kept: Record):
    """Facts are read back in order and complete, with text that COPY escapes."""
    odd = 'tab\t newline\n return\r backslash \\ quote " \\N \\. end'
    client = RequestPart(ip="203.0.113.7", ua=odd, metadata=msgspec.Raw(b'{"b": 1.0,\t"a":"\\u00e9\\\\ \\n"}'))
    first = redeemed("CODE-1", order="o1", request=client)
    events = [
        assigned("CODE-1", request=RequestPart(ua=odd)),
        first,
        rolled_back(first, request=RequestPart(reason=odd)),
        redeemed("CODE-2", value_e4=None, currency=None, discount_e4=0, max_uses=0),
        redeemed("CODE-3", value_e4=10**15 - 1, digits=4, discount_e4=1),
        assigned("CODE-4", at_ms=1),
        redeemed("CODE-5", user="-", order="-", request=RequestPart(ip="-", ua="-")),
    ]
    assert await kept.write(*events[:2])
    assert await kept.write(*events[2:])
    facts = await kept.facts(batch=2)
    of_first = {"redeemed": (kept.epoch, 2), "discount_e4": first.discount_e4, "redemption_id": kept.id_of(first)}
    events[2] = msgspec.structs.replace(events[2], **of_first)
    expected = [msgspec.structs.replace(event, epoch=kept.epoch, seq=i) for i, event in enumerate(events, 1)]
    plain = [msgspec.structs.replace(event, request=RequestPart()) for event in facts]
    assert plain == [msgspec.structs.replace(event, request=RequestPart()) for event in expected]
    assert [msgspec.json.encode(event.request) for event in facts] == [
        msgspec.json.encode(event.request) for event in expected
    ]
    assert await kept.facts(after=(kept.epoch, 4)) == facts[4:]
    assert await kept.facts(after=(kept.epoch + 1, 0)) == []


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


@pytest.mark.parametrize(
    "bad",
    [
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
    ],
)
async def test_invalid_redemptions_are_rejected(kept: Record, bad: dict[str, Any]):
    """The schema rejects a batch with an invalid redemption as an error about data: no fact, and the cursor stays."""
    with pytest.raises((asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)):
        await kept.write(assigned(), redeemed(**bad))
    assert (await read_partition(kept.pool, 0)).cursor == (kept.epoch, 0)
    assert await kept.facts() == []


@pytest.mark.parametrize("together", [True, False])
async def test_a_place_in_an_order_is_taken_once(kept: Record, together: bool):
    """A second redemption in the same place of an order is an error; in another, or after a rollback, it is not."""
    first, twice = redeemed("CODE-1", order="o"), redeemed("CODE-2", order="o")
    await _write(kept, together, first, redeemed("CODE-3", order="o", slot=2), redeemed("CODE-4", order="other"))
    with pytest.raises(asyncpg.UniqueViolationError):
        await kept.write(twice)
    await _write(kept, together, rolled_back(first), twice)


@pytest.mark.parametrize("together", [True, False])
async def test_a_code_with_one_use_is_used_once(kept: Record, together: bool):
    """A second redemption of a code with one use is an error, unless the first was rolled back with restore."""
    first, second, third = redeemed(), redeemed(), redeemed()
    await _write(kept, together, first, rolled_back(first), second)
    with pytest.raises(asyncpg.UniqueViolationError):
        await kept.write(third)
    await _write(kept, together, rolled_back(second, restore=False), redeemed("OTHER"))
    with pytest.raises(asyncpg.UniqueViolationError):
        await kept.write(third)
    with pytest.raises(asyncpg.UniqueViolationError):
        await kept.write(redeemed("X"), redeemed("X"))
    await _write(kept, together, redeemed("MULTI", max_uses=2), redeemed("MULTI", max_uses=2))


async def test_what_one_transaction_would_hide_is_undecided(kept: Record):
    """A batch in which a later rollback would hide a conflict is not recorded whole."""
    first = redeemed(order="o")
    await kept.write(first)
    for events in (
        [redeemed("X", order="o"), rolled_back(first)],
        [redeemed(), rolled_back(first)],
        [x := redeemed("X"), redeemed("X"), rolled_back(x)],
        [a := redeemed("X", order="p", max_uses=0), redeemed("X", order="p", max_uses=0), rolled_back(a)],
    ):
        with pytest.raises(event_writer.NeedsSmallerBatch):
            await kept.write(*events)


async def test_a_rollback_and_an_assignment_are_recorded_once(kept: Record):
    """A second rollback of a redemption is an error, and so is a second assignment of a code."""
    use = redeemed()
    await kept.write(use, rolled_back(use), assigned("OTHER"))
    for second in (rolled_back(use), assigned("OTHER", user="other")):
        with pytest.raises(asyncpg.UniqueViolationError):
            await kept.write(second)


async def test_a_field_with_a_separator_of_copy_is_rejected(kept: Record):
    """A batch with a tab or a line's end in a field is rejected before anything is written."""
    for code in ("A\tB", "A\nB", "A\\tB"):
        with pytest.raises(MalformedEvent):
            await kept.write(redeemed("FINE"), redeemed(code))
    assert await kept.facts() == []


async def _write(kept: Record, together: bool, *events: Event) -> None:
    batches: Iterable[tuple[Event, ...]] = [events] if together else [(event,) for event in events]
    for batch in batches:
        assert await kept.write(*batch)
