"""The roll-ups of reports equal what is counted from the facts one by one."""

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from service.engine.formats.event_id import EventId
from service.engine.formats.events import Assigned, BalanceChanged, encode_event, parse
from service.engine.record.facts.event_writer import find_runs, record_late
from service.server.in_postgres import user_deletion
from service.server.in_postgres.report_rollups import compare_rollups
from service.server.in_postgres.user_deletion import begin_erasure
from tests.harness.redemptions import redeemed_text
from tests.integration.recording.flush_fixtures import MakeFlusher, RecordedShop, caught_up
from tests.integration.recording.record_fixtures import rolled_back

ZONES = {1: ("UTC", timedelta()), 2: ("Asia/Kolkata", timedelta(hours=5, minutes=30))}
START_MS = 1_794_991_234_567
Row = dict[str, Any]


class Sales:
    """Random events, twelve minutes apart, of two workspaces."""

    def __init__(self, seed: int) -> None:
        self._random, self._made = random.Random(seed), 0
        self._standing: list[Any] = []

    def make(self, epoch: int, seq: int) -> str:
        """The event of this number."""
        chosen, self._made = self._random.random(), self._made + 1
        about: Row = {"workspace": self._random.choice([1, 2]), "book": self._random.choice([1, 2, 3])}
        about |= {"code": f"CODE-{self._made}", "user": f"user-{self._random.randrange(40)}", "at_ms": self._at_ms()}
        if chosen < 0.1:
            return encode_event(Assigned(epoch=epoch, seq=seq, **about))
        if chosen < 0.25 and self._standing:
            use = self._standing.pop(self._random.randrange(len(self._standing)))
            after = {} if use.balance_after_e4 is None else {"balance_after_e4": 700}
            back = rolled_back(use, restore=self._random.random() < 0.5, **after)
            return encode_event(replace(back, at_ms=about["at_ms"]))
        if chosen < 0.3:
            about |= {"book": 3, "user": "", "kind": self._random.choice(["credited", "closed"])}
            more: Any = about | {"amount_e4": 100 * self._random.randrange(1, 99), "balance_after_e4": 0}
            return encode_event(BalanceChanged(epoch=epoch, seq=seq, **more))
        value_e4 = self._random.choice([None, 1_234_500, 999_900])
        about |= {"value_e4": value_e4, "discount_e4": 0 if value_e4 is None else self._random.randrange(1, 1000) * 100}
        about["currency"] = None if value_e4 is None else self._random.choice(["USD", "EUR"])
        if about["book"] == 3 and value_e4 is not None:  # of cards
            about["balance_after_e4"] = 100 * self._random.randrange(3)
        text = redeemed_text(order=None, slot=0, **about)
        self._standing.append(parse(epoch, seq, text.encode(), b"{}", None))
        return text

    def _at_ms(self) -> int:
        return START_MS + self._made * 720_000


async def read_rollups(shop: RecordedShop) -> list[Row]:
    rows = await shop.pool.fetch("SELECT * FROM report_sums ORDER BY workspace, step, start, book, currency")
    return [dict(row) for row in rows]


async def count_facts(shop: RecordedShop) -> list[Row]:
    """What the roll-ups should be."""
    made: defaultdict[Any, Row] = defaultdict(Counter)

    def rows_of(workspace: int, at: datetime, book: int, currency: str) -> list[Row]:
        """Of the hour and the day, of the book and of all."""
        steps = [(step, _start(step, at, workspace)) for step in ("hour", "day")]
        return [made[workspace, *step, some, currency] for step in steps for some in (book, 0)]

    back = {row[0] for row in await shop.pool.fetch("SELECT redemption_id FROM rollbacks")}
    users: defaultdict[int, list[Any]] = defaultdict(list)
    for row in await shop.pool.fetch("SELECT * FROM redemptions ORDER BY epoch, seq"):
        what = (row["redeemed_at"], row["book"], row["currency"] or "")
        users[row["workspace"]].append((*what, row["user_id"]))
        for counted in rows_of(row["workspace"], *what):
            if row["redemption_id"] in back:
                counted["rolled_back"] += 1
                continue
            counted["redemptions"] += 1
            counted["order_value"] += row["order_value"] or Decimal(0)
            counted["discount_amount"] += row["discount_amount"]
            counted["balance_spent"] += 0 if row["balance_after"] is None else row["discount_amount"]
    for workspace, at, book in await shop.pool.fetch("SELECT workspace, assigned_at, book FROM assignments"):
        for counted in rows_of(workspace, at, book, ""):
            counted["assigned"] += 1
    for workspace, some in users.items():
        for kind in ("hour", "day", "week"):
            for book in (0, 1, 2, 3):
                _count_users(made, workspace, kind, book, some)
    names = (
        "redemptions rolled_back order_value discount_amount balance_spent assigned new_users returning_users week_new "
    )
    return [
        dict(zip("workspace step start book currency".split(), key, strict=True))
        | {name: counted[name] for name in (names + "week_returning").split()}
        for key, counted in sorted(made.items())
    ]


async def read_card_sums(shop: RecordedShop) -> list[Any]:
    rows = await shop.pool.fetch("SELECT workspace, book, start, kind, amount FROM card_sums ORDER BY 1, 2, 3, 4")
    return [tuple(row) for row in rows]


async def count_cards(shop: RecordedShop) -> list[Any]:
    """What the sums of cards should be."""
    made: defaultdict[Any, Decimal] = defaultdict(Decimal)

    def add(workspace: int, book: int, at: datetime, kind: str, amount: Decimal) -> None:
        made[workspace, book, _start("day", at, workspace), kind] += amount

    spent = {
        row["redemption_id"]: row
        for row in await shop.pool.fetch("SELECT * FROM redemptions WHERE balance_after IS NOT NULL")
    }
    for row in spent.values():
        add(row["workspace"], row["book"], row["redeemed_at"], "spent", row["discount_amount"])
    for back in await shop.pool.fetch("SELECT * FROM rollbacks WHERE restore"):
        if row := spent.get(back["redemption_id"]):
            add(row["workspace"], row["book"], back["rolled_back_at"], "returned", row["discount_amount"])
    for row in await shop.pool.fetch("SELECT * FROM balance_changes"):
        add(row["workspace"], row["book"], row["changed_at"], row["change"], row["amount"])
    return [(*key, amount) for key, amount in sorted(made.items())]


def _count_users(made: defaultdict[Any, Row], workspace: int, kind: str, book: int, some: Iterable[Any]) -> None:
    """Count each user once in each interval, at the first redemption of the book."""
    counted, before = set(), {}
    step, names = (
        ("day", ("week_new", "week_returning")) if kind == "week" else (kind, ("new_users", "returning_users"))
    )
    for at, of_book, currency, user in some:
        start = _start(kind, at, workspace)
        before.setdefault(user, at)
        if book in (0, of_book) and (start, user) not in counted:
            counted.add((start, user))
            made[workspace, step, _start(step, at, workspace), book, currency][names[before[user] < start]] += 1


def _start(kind: str, at: datetime, workspace: int) -> datetime:
    local = at.astimezone(timezone(ZONES[workspace][1])).replace(minute=0, second=0, microsecond=0)
    days = {"hour": 0, "day": 0, "week": local.weekday()}[kind]
    return (local.replace(hour=local.hour if kind == "hour" else 0) - timedelta(days=days)).astimezone(UTC)


@pytest.fixture
async def zoned(shop: RecordedShop) -> RecordedShop:
    """Two workspaces, each in its time zone."""
    for workspace, (zone, _) in ZONES.items():
        await shop.pool.execute(
            "INSERT INTO workspaces (workspace_id, name, mode, partition, version, time_zone) "
            "VALUES (gen_random_uuid(), $1, 'live', 0, 1, $2)",
            f"shop-{workspace}",
            zone,
        )
    return shop


async def sell(shop: RecordedShop, sales: Sales, count: int) -> None:
    first = len(shop.appended) + 1
    await shop.append(*(sales.make(shop.epoch, seq) for seq in range(first, first + count)))


async def test_rollups_equal_the_facts(zoned: RecordedShop, make_flusher: MakeFlusher):
    """3,000 random events of weeks, recorded by workers that are cancelled at random moments, are counted once each: a
    count from the beginning agrees, finds a wrong figure, and corrects it."""
    sales, moments = Sales(1), random.Random(2)
    for _ in range(6):
        await sell(zoned, sales, 500)
        flusher = await make_flusher()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(moments.expovariate(1 / 0.2)):
                await flusher.run()
    await caught_up(zoned, await make_flusher())
    expected = await count_facts(zoned)
    assert await read_rollups(zoned) == expected
    cards = await count_cards(zoned)
    assert await read_card_sums(zoned) == cards
    assert {kind for _, _, _, kind, _ in cards} == {"credited", "spent", "returned", "closed"}
    assert sum(row["week_returning"] for row in expected) > 40
    assert sum(row["rolled_back"] for row in expected) > 400
    assert await compare_rollups(zoned.pool, 0, False, lambda _: None) == 0
    await zoned.pool.execute("UPDATE report_sums SET order_value = order_value + 0.01 WHERE redemptions > 2")
    await zoned.pool.execute("DELETE FROM report_sums WHERE book = 2")
    await zoned.pool.execute("DELETE FROM report_users WHERE book = 2")
    await zoned.pool.execute("DELETE FROM card_sums WHERE kind = 'returned'")
    assert await compare_rollups(zoned.pool, 0, False, lambda _: None) > 100
    assert await compare_rollups(zoned.pool, 0, True, lambda _: None) > 100
    assert await read_rollups(zoned) == expected
    assert await read_card_sums(zoned) == cards
    await sell(zoned, sales, 500)
    await caught_up(zoned, await make_flusher())
    assert await read_rollups(zoned) == await count_facts(zoned)
    assert await read_card_sums(zoned) == await count_cards(zoned)


async def test_a_repair_after_a_changed_time_zone_leaves_no_difference(zoned: RecordedShop, make_flusher: MakeFlusher):
    """Intervals of the earlier zone have no facts any more."""
    await sell(zoned, Sales(5), 100)
    await caught_up(zoned, await make_flusher())
    await zoned.pool.execute("UPDATE workspaces SET time_zone = 'America/New_York'")
    assert await compare_rollups(zoned.pool, 0, True, lambda _: None) > 10
    assert await compare_rollups(zoned.pool, 0, False, lambda _: None) == 0


async def test_late_events_count_in_their_hour(zoned: RecordedShop, make_flusher: MakeFlusher):
    """A redemption that is recorded late counts in the hour in which it was made, and is taken out if its rollback was
    recorded before it."""
    about: Row = {"workspace": 1, "at_ms": START_MS, "value_e4": 500, "discount_e4": 500, "balance_after_e4": 0}
    late = [redeemed_text(code=f"LATE-{n}", user=f"late-{n}", order=f"o{n}", **about) for n in (1, 2)]
    use: Any = parse(zoned.epoch, 1, late[0].encode(), b"{}", None)
    await zoned.append(*["K 1 1"] * 2, encode_event(rolled_back(use, balance_after_e4=500)))
    await sell(zoned, Sales(3), 20)
    await caught_up(zoned, await make_flusher())
    async with zoned.pool.acquire() as connection, connection.transaction():
        entries = [(seq, d.encode(), b"{}", None) for seq, d in enumerate(late, 1)]
        await record_late(connection, 0, zoned.epoch, entries)
    assert await read_rollups(zoned) == await count_facts(zoned)
    assert await read_card_sums(zoned) == await count_cards(zoned)
    assert {row[3] for row in await read_card_sums(zoned) if row[1] == 1} == {"spent", "returned"}
    assert (await zoned.pool.fetchval("SELECT sum(rolled_back) FROM report_sums WHERE book = 1 AND step = 'day'")) == 1


async def test_a_deleted_user_stays_counted(zoned: RecordedShop, make_flusher: MakeFlusher):
    """The roll-ups forget the name of a deleted user; the figures stay, and a user of this name is a new one."""
    sales = Sales(4)
    await sell(zoned, sales, 300)
    await caught_up(zoned, await make_flusher())
    before, last = await read_rollups(zoned), EventId(zoned.epoch, 300)
    for workspace in ZONES:
        await begin_erasure(zoned.pool, workspace, 0, "user-7", last)
    assert await erase_ordered(zoned) == [True, True]
    assert await zoned.pool.fetchval("SELECT count(*) FROM report_users WHERE user_id = 'user-7'") == 0
    assert await read_rollups(zoned) == before
    await sell(zoned, sales, 300)
    await caught_up(zoned, await make_flusher())
    assert await read_rollups(zoned) == await count_facts(zoned)
    assert await compare_rollups(zoned.pool, 0, False, lambda _: None) == 0


@pytest.mark.parametrize("seed", range(4))
async def test_users_who_go_on_redeeming_while_they_are_deleted(
    zoned: RecordedShop, make_flusher: MakeFlusher, seed: int
):
    """Deletions that are ordered, ordered again, killed, and finished while their users redeem: afterwards each figure
    is that of the facts, in which the user is another one."""
    sales, chosen = Sales(seed), random.Random(seed)
    for _ in range(12):
        await sell(zoned, sales, chosen.randrange(5, 120))
        await caught_up(zoned, await make_flusher())
        last = EventId(zoned.epoch, len(zoned.appended) - chosen.randrange(3))
        for user in range(40):
            if chosen.random() < 0.4:
                await begin_erasure(zoned.pool, chosen.choice([1, 2]), 0, f"user-{user}", last)
        if chosen.random() < 0.4:
            await erase_ordered(zoned, until=user_deletion.erase_facts)
        elif chosen.random() < 0.7:
            await erase_ordered(zoned)
    await sell(zoned, sales, 100)
    await caught_up(zoned, await make_flusher())
    await erase_ordered(zoned)
    assert await zoned.pool.fetchval("SELECT count(*) FROM erasures WHERE finished_at IS NOT NULL") > 30
    assert await read_rollups(zoned) == await count_facts(zoned)
    await sell(zoned, sales, 300)
    await caught_up(zoned, await make_flusher())
    assert await compare_rollups(zoned.pool, 0, False, lambda _: None) == 0


async def erase_ordered(shop: RecordedShop, until: Any = user_deletion.finish_erasure) -> list[bool]:
    """Do what a worker does in Postgres for each user to be deleted, up to a step; whether each is done."""
    last, done = EventId(shop.epoch, len(shop.appended)), []
    for workspace in (1, 2):
        for user in await user_deletion.pending_erasures(shop.pool, 0, 1000, busy=[3 - workspace]):
            await user_deletion.erase_facts(shop.pool, user, last)
            if until is user_deletion.finish_erasure:
                done.append(await user_deletion.finish_erasure(shop.pool, user, last))
    return done


def test_runs_of_numbers():
    """Consecutive numbers are one run."""
    assert find_runs([]) == []
    assert find_runs([5, 6, 7, 9, 11, 12]) == [(5, 7), (9, 9), (11, 12)]
