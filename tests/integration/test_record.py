"""The record: facts, idempotency keys, partitions and waiting, on a real Postgres."""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterable
from typing import Any

import asyncpg
import msgspec
import pytest

from service.domain.errors import Refusal
from service.domain.events import Answered, Event, MalformedEvent, RequestPart
from service.record import facts, waiting
from service.record.facts import prune_keys
from service.record.partitions import (
    LeaseLost,
    WrongPartitions,
    begin_epoch,
    bump_config_version,
    confirm_incarnation,
    confirm_open,
    ensure_partitions,
    enter_epoch,
    read_partition,
    read_partitions,
    release_lease,
    renew_lease,
    take_lease,
)
from service.record.past import facts_in_order, key_pages
from service.record.pool import UnfitDatabase, connect, is_away
from service.record.waiting import Recorded
from tests.integration.record_fixtures import NOW_MS, Record, assigned, make_workspace, redeemed, rolled_back


async def test_facts_come_back_as_they_were(kept: Record):
    """Facts are read back in order, with all that it takes to apply them again, and text that COPY escapes."""
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
    found = await kept.facts(batch=2)
    of_first = {"redeemed": (kept.epoch, 2), "discount_e4": first.discount_e4}
    events[2] = msgspec.structs.replace(events[2], **of_first)
    expected = [msgspec.structs.replace(event, epoch=kept.epoch, seq=i) for i, event in enumerate(events, 1)]
    plain = [msgspec.structs.replace(event, request=RequestPart()) for event in found]
    assert plain == [msgspec.structs.replace(event, request=RequestPart()) for event in expected]
    assert [msgspec.json.encode(event.request) for event in found] == [
        msgspec.json.encode(event.request) for event in expected
    ]
    assert await kept.facts(after=(kept.epoch, 4)) == found[4:]
    assert await kept.facts(after=(kept.epoch + 1, 0)) == []


async def test_facts_are_read_from_a_snapshot(kept: Record):
    """What is recorded while facts are being read doesn't appear among them."""
    await kept.write(*(assigned(f"CODE-{i}") for i in range(10)))
    async with kept.pool.acquire() as connection, contextlib.aclosing(facts_in_order(connection, 0, batch=2)) as all_:
        seen = [await anext(all_)]
        await kept.write(assigned("LATER"))
        seen += [fact async for fact in all_]
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


async def test_the_cursor_moves_with_the_facts(kept: Record):
    """A batch that Postgres refuses leaves neither a fact nor a moved cursor."""
    with pytest.raises(asyncpg.CheckViolationError):
        await kept.write(assigned(), redeemed(discount_e4=1_000_001))
    assert (await read_partition(kept.pool, 0)).cursor == (kept.epoch, 0)
    assert await kept.facts() == []


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
        {"redemption_id": "none"},
        {"book": 2**31},
        {"request": RequestPart(metadata=msgspec.Raw(b"[1]"))},
        {"request": RequestPart(ua="\0")},
    ],
)
async def test_senseless_redemptions_are_refused(kept: Record, bad: dict[str, Any]):
    """The schema refuses what no script should ever decide, as an error about data."""
    with pytest.raises((asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)):
        await kept.write(redeemed(**bad))


@pytest.mark.parametrize("together", [True, False])
async def test_a_place_in_an_order_is_taken_once(kept: Record, together: bool):
    """A second redemption in the same place of an order is an error, in another place or after a rollback not."""
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
    """A conflict that a later rollback of the same batch would hide is not recorded as one batch."""
    first = redeemed(order="o")
    await kept.write(first)
    for events in (
        [redeemed("X", order="o"), rolled_back(first)],
        [redeemed(), rolled_back(first)],
        [x := redeemed("X"), redeemed("X"), rolled_back(x)],
        [a := redeemed("X", order="p", max_uses=0), redeemed("X", order="p", max_uses=0), rolled_back(a)],
    ):
        with pytest.raises(facts.Undecided):
            await kept.write(*events)


async def test_a_redemption_is_rolled_back_once(kept: Record):
    """A second rollback of a redemption is an error."""
    use = redeemed()
    await kept.write(use, rolled_back(use))
    with pytest.raises(asyncpg.UniqueViolationError):
        await kept.write(rolled_back(use))


async def test_a_code_is_assigned_to_one(kept: Record):
    """A second assignment of a code is an error."""
    await kept.write(assigned())
    with pytest.raises(asyncpg.UniqueViolationError):
        await kept.write(assigned(user="other"))


async def test_an_idempotency_key_is_kept_with_its_change(kept: Record):
    """The event that has an entry names the key; the other events of the same change have none."""
    part = RequestPart(key="k", op="rollback")
    uses = [redeemed(f"CODE-{i}", order="o", slot=i) for i in (1, 2)]
    await kept.write(*uses)
    first, second = (rolled_back(use, request=part) for use in uses)
    await kept.write(msgspec.structs.replace(first, kept="f 0 body"), second)
    row = await kept.pool.fetchrow("SELECT key, op, epoch, seq, entry FROM idempotency_keys")
    assert tuple(row) == ("k", "rollback", kept.epoch, 3, "f 0 body")


async def test_what_copy_would_take_for_its_own_is_kept_as_it_is(kept: Record):
    """A key with a backslash, an answer with a tab, and metadata with one between its words come back as they were."""
    part = RequestPart(key="k\\N", op="redeem", metadata=msgspec.Raw(b'{"a":\t1}'))
    await kept.write(redeemed("PLAIN", request=RequestPart(key="k", op="redeem"), kept="f 0 @x"))
    await kept.write(redeemed("ODD", request=part, kept="f 0\t@\\x"))
    await kept.write(redeemed("SPACED", request=RequestPart(metadata=part.metadata)))
    row = await kept.pool.fetchrow("SELECT key, entry FROM idempotency_keys WHERE seq = 2")
    assert tuple(row or ()) == ("k\\N", "f 0\t@\\x")
    assert [bytes(fact.request.metadata) for fact in await kept.facts()] == [b"", b'{"a":\t1}', b'{"a":\t1}']


async def test_no_word_holds_what_copy_would_take_for_its_own(kept: Record):
    """A batch with a tab or a line's end in one of its words is refused before anything is written."""
    for code in ("A\tB", "A\nB", "A\\tB"):
        with pytest.raises(MalformedEvent):
            await kept.write(redeemed("FINE"), redeemed(code))
    assert await kept.facts() == []


async def test_an_idempotency_key_comes_again_when_its_time_is_over(kept: Record):
    """A key is refused for another change within an hour, and replaces its older row after it."""
    keyed = {"request": RequestPart(key="k", op="redeem"), "kept": "old"}
    hour = 3_600_000
    await kept.write(redeemed("CODE-1", **keyed))
    for again in (redeemed("CODE-2", **keyed, at_ms=NOW_MS + hour - 1), rolled_back(redeemed(), **keyed)):
        with pytest.raises(facts.KeyReused):
            await kept.write(again)
    await kept.write(redeemed("CODE-2", **keyed | {"kept": "new"}, at_ms=NOW_MS + hour))
    assert await kept.pool.fetchval("SELECT entry FROM idempotency_keys WHERE seq = 2") == "new"
    await kept.pool.execute("UPDATE idempotency_keys SET recorded_at = now() - interval '1 hour'")
    await kept.write(redeemed("CODE-3", **keyed, at_ms=NOW_MS + hour))
    with pytest.raises(facts.Undecided):
        await kept.write(redeemed("A", **keyed), redeemed("B", **keyed))


async def test_an_answer_off_the_hot_path_is_kept(kept: Record):
    """An event that says no more than what a request was answered leaves its key and no fact."""
    await kept.write(
        Answered(epoch=0, seq=0, workspace=1, at_ms=NOW_MS, request=RequestPart(key="k"), kept="f 0 201 x")
    )
    assert await kept.pool.fetchval("SELECT entry FROM idempotency_keys") == "f 0 201 x"


async def test_live_keys(kept: Record):
    """The keys of a workspace are known for as long as it says, and pruned after."""
    await make_workspace(kept.pool)
    await kept.write(*(redeemed(f"CODE-{i}", request=RequestPart(key=f"k{i}"), kept="f 0 @x") for i in range(3)))
    await kept.pool.execute("UPDATE idempotency_keys SET recorded_at = now() - interval '25 hours' WHERE key = 'k1'")
    async with kept.pool.acquire() as connection:
        live = {key.key: key async for page in key_pages(connection, 0) for key in page}
    assert set(live) == {"k0", "k2"}
    assert live["k2"].entry == "f 0 @x"
    assert 23.9 < live["k2"].ttl_ms / 3_600_000 <= 24
    assert [await prune_keys(kept.pool, 10), await prune_keys(kept.pool, 10)] == [1, 0]


async def test_the_number_of_partitions_is_fixed(pool: asyncpg.Pool):
    """Partitions are made once; another number is an error that says what to do."""
    await ensure_partitions(pool, 2)
    with pytest.raises(WrongPartitions, match="SCRIP_PARTITIONS=2"):
        await ensure_partitions(pool, 3)
    assert [(row.id, row.state, row.config_version) for row in await read_partitions(pool)] == [
        (0, "closed", 0),
        (1, "closed", 0),
    ]


async def test_a_lease_is_one_holders(pool: asyncpg.Pool):
    """Nobody takes a live lease; after its end, or when it is given back, another does with a fence of its own."""
    fences = await asyncio.gather(*(take_lease(pool, 0, f"holder {i}", 60_000) for i in range(8)))
    (fence,) = [fence for fence in fences if fence is not None]
    assert await renew_lease(pool, 0, fence, 1)
    await asyncio.sleep(0.01)
    second = await take_lease(pool, 0, "second", 60_000)
    assert second is not None
    assert second != fence
    assert not await renew_lease(pool, 0, fence, 60_000)
    await release_lease(pool, 0, fence)
    assert await take_lease(pool, 0, "third", 60_000) is None
    await release_lease(pool, 0, second)
    assert await take_lease(pool, 0, "third", 60_000) is not None
    assert await take_lease(pool, 1, "second", 60_000) is not None


async def test_an_epoch_opens_for_its_fence(pool: asyncpg.Pool):
    """An epoch is confirmed only under its fence, with the cursor in it, and unless a later one was drawn."""
    fence = await take_lease(pool, 0, "first", 0)
    assert fence is not None
    epoch = await begin_epoch(pool, 0, fence, "a")
    now = (await read_partition(pool, 0)).incarnation
    assert not await confirm_open(pool, 0, fence, epoch, now)
    assert await enter_epoch(pool, 0, fence, (0, 0), epoch, b"a")
    assert not await confirm_open(pool, 0, fence, epoch, "another Postgres")
    assert await confirm_open(pool, 0, fence, epoch, now)
    row = await read_partition(pool, 0)
    assert (row.state, row.epoch, row.nonce, row.cursor, row.cursor_digest) == ("open", epoch, "a", (epoch, 0), b"a")
    later = await take_lease(pool, 0, "later", 0)
    assert later is not None
    with pytest.raises(LeaseLost):
        await begin_epoch(pool, 0, fence, "b")
    next_epoch = await begin_epoch(pool, 0, later, "b")
    assert next_epoch > epoch
    assert (await read_partition(pool, 0)).state == "closed"
    assert not await confirm_open(pool, 0, later, epoch, now)
    assert not await enter_epoch(pool, 0, fence, (epoch, 0), next_epoch, b"b")
    assert not await enter_epoch(pool, 0, later, (epoch, 1), next_epoch, b"b")
    assert not await enter_epoch(pool, 0, later, (epoch, 0), next_epoch + 1, b"b")


async def test_configuration_versions_have_no_gaps(pool: asyncpg.Pool):
    """Changes at the same moment get numbers without gaps, also when some of them fail."""

    async def change(fails: bool) -> int:
        async with pool.acquire() as connection, connection.transaction():
            version = await bump_config_version(connection, 1)
            if fails:
                raise ArithmeticError
            return version

    versions = await asyncio.gather(*(change(i % 3 == 0) for i in range(30)), return_exceptions=True)
    assert sorted(version for version in versions if isinstance(version, int)) == list(range(1, 21))


async def test_nothing_is_configured_in_a_postgres_that_was_not_compared(pool: asyncpg.Pool):
    """After a start, and where its tables were made anew, Postgres takes no change until a worker says that it may."""

    async def change() -> int:
        async with pool.acquire() as connection, connection.transaction():
            return await bump_config_version(connection, 0)

    before = await change()
    await pool.execute("VACUUM FULL config_versions")
    row = await read_partition(pool, 0)
    assert not row.confirmed
    with pytest.raises(Refusal) as refused:
        await change()
    assert refused.value.code == "recovering"
    fence = await take_lease(pool, 0, "worker", 0)
    assert fence is not None
    for wrong in ((fence + 1, row.incarnation), (fence, "another")):
        await confirm_incarnation(pool, 0, *wrong)
        assert not (await read_partition(pool, 0)).confirmed
    await confirm_incarnation(pool, 0, fence, row.incarnation)
    assert (await read_partition(pool, 0)).confirmed
    assert await change() == before + 1


async def test_recording_doesnt_wait_for_configuration(kept: Record):
    """A long change of configuration doesn't hold up the record."""
    async with kept.pool.acquire() as connection, connection.transaction():
        await bump_config_version(connection, 0)
        async with asyncio.timeout(30):
            assert await kept.write(assigned())


async def test_waiting_until_recorded(kept: Record):
    """Who waits for an event is woken when it is recorded, not before, and False when the time is over."""
    recorded = Recorded(kept.pool)
    waiters = [asyncio.create_task(recorded.wait(0, kept.epoch, seq, 5000)) for seq in (3, 1, 2)]
    await asyncio.sleep(0.05)
    assert not any(waiter.done() for waiter in waiters)
    await kept.write(assigned("CODE-1"), assigned("CODE-2"))
    assert await waiters[1]
    assert await waiters[2]
    assert not waiters[0].done()
    await kept.write(assigned("CODE-3"))
    assert await waiters[0]
    assert not await recorded.wait(0, kept.epoch, 4, 30)
    assert not await recorded.wait(1, kept.epoch, 1, 30)
    await asyncio.sleep(0.05)
    assert recorded._poller is not None
    assert recorded._poller.done()


async def test_waiting_for_an_event_of_a_closed_epoch(kept: Record):
    """An event of a closed epoch is recorded if its record went so far; past its end it was lost, and we say so."""
    await kept.write(assigned("CODE-1"), assigned("CODE-2"))
    epoch = await begin_epoch(kept.pool, 0, kept.fence, "b")
    assert await enter_epoch(kept.pool, 0, kept.fence, (kept.epoch, 2), epoch, b"b")
    recorded = Recorded(kept.pool)
    asked = [
        recorded.wait(0, kept.epoch, 2, 1000),
        recorded.wait(0, kept.epoch, 3, 1000),
        recorded.wait(0, epoch, 0, 1000),
    ]
    assert await asyncio.gather(*asked) == [True, False, True]


async def test_waiting_is_bounded(kept: Record, monkeypatch: pytest.MonkeyPatch):
    """Past the bound, and while Postgres is away, the answer is False and no error."""
    monkeypatch.setattr(waiting, "MAX_WAITERS", 2)
    recorded = Recorded(kept.pool)
    first = [asyncio.create_task(recorded.wait(0, kept.epoch, 1, 200)) for _ in range(2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(0.1):
        assert not await recorded.wait(0, kept.epoch, 1, 10_000)
    kept.pool.terminate()
    assert await asyncio.gather(*first) == [False, False]
    assert not await recorded.wait(0, kept.epoch, 1, 50)
    await recorded.close()


async def test_a_postgres_that_may_forget_is_unfit(new_database, database_url: str):
    """A server that answers commits before they are on disk is refused at the start."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = off'; END $$"
    )
    await connection.close()
    with pytest.raises(UnfitDatabase, match="synchronous_commit is off"):
        await connect(database_url)


async def test_a_postgres_that_is_away_is_told_from_a_wrong_statement(pool: asyncpg.Pool):
    """Where a connection breaks, can't be made or is closed, Postgres is away; where a statement is wrong, it isn't."""

    async def away(doing: Awaitable[Any]) -> bool:
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)) as failed:
            await doing
        return is_away(failed.value)

    assert not await away(pool.execute("SELECT * FROM nothing"))
    assert await away(pool.execute("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert await away(connect("postgresql://nobody@127.0.0.1:1/none"))
    pool.terminate()
    assert await away(pool.execute("SELECT 1"))


async def _write(kept: Record, together: bool, *events: Event) -> None:
    batches: Iterable[tuple[Event, ...]] = [events] if together else [(event,) for event in events]
    for batch in batches:
        assert await kept.write(*batch)
