"""The judgement after a fault: the rules of every load, and checks of Postgres, Redis and the processes' logs."""

import asyncio
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from loadtests.judge import Judge
from loadtests.ledger import now_ms
from loadtests.plan import HOLD_S
from loadtests.rules import LIMITS
from loadtests.tables import Tables
from service.engine.formats.quarantined_event import read_names
from service.engine.record.partitions.partition_rows import read_partitions
from service.server.in_postgres.report_rollups import compare_rollups
from service.server.reconcile.comparison import reconcile
from tests.lab.faults.deployment import Deployment
from tests.lab.faults.looking import Drill
from tests.lab.faults.nodes import wait_until
from tests.lab.faults.rebuilding import live_url, unlike_rebuilt

_KEYS_IN_REDIS = {"lock", "unlock", "tidy"}
"""Operations without an event: Redis alone stores their Idempotency-Keys."""
_DOUBLE = LIMITS.keys() | {"recorded without a response", "limit not used up"}
"""Rules that are broken when something was done twice, or a limit was exceeded."""
_TIME = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
_REDEMPTIONS = f"""SELECT book_id::text, redemption_id::text, r.code, r.user_id, coalesce(r.order_id, ''),
  coalesce(round(order_value, digits)::text, ''), coalesce(r.currency, ''), round(discount_amount, digits)::text,
  coalesce(round(final_amount, digits)::text, ''), {_TIME.format("redeemed_at")},
  coalesce({_TIME.format("rolled_back_at")}, ''), (discount_amount * 10000)::bigint
FROM redemptions r JOIN books USING (workspace, book) LEFT JOIN rollbacks b USING (redemption_id)
WHERE book_id = ANY($1)"""
"""As the table `redemptions` of loadtests/rules.py."""
_ASSIGNMENTS = f"""SELECT code, user_id, {_TIME.format("assigned_at")}
FROM {{}} JOIN books USING (workspace, book) WHERE book_id = ANY($1)"""
_LISTS = {
    "SELECT * FROM redemptions": _REDEMPTIONS,
    "SELECT code, user_id, assigned_at FROM codes WHERE user_id <> ''": _ASSIGNMENTS.format("open_assignments"),
}
"""What the API lists, and the same rows in Postgres."""


@dataclass
class Verdict:
    """The result of a round's checks."""

    wrong: list[str]
    double: int
    """How many of these were done twice, or exceeded a limit."""
    lost: Counter[str]
    """Responses that are not in Postgres, by their durability."""
    kept: int
    quarantined: int


async def judge(drill: Drill, may_lose: frozenset[str], alarms: Collection[str], *, locks_end: bool) -> Verdict:
    """Check everything. `locks_end` says whether locks may have ended before their time. Judge a drill only once: the
    checks send requests that change its books."""
    deployment, ledger, tables = drill.deployment, drill.ledger, Tables()
    await deployment.until_ready()
    missing = await _find_missing_events(drill)
    set_aside = await _settle(drill)
    of_load = Judge(drill.on, drill.books, ledger, ledger.entries, tables, may_lose=may_lose, locks_end=locks_end)
    of_load.looks = drill.looks
    of_load.lists_taken_back = True
    rows = await deployment.pool.fetch(
        _ASSIGNMENTS.format("unassignments") + " AND assigned_at IS NOT NULL", list(of_load.books)
    )
    tables.insert("taken_back", rows)
    tables.insert("closed", drill.closed)
    judgement = await of_load.judge()
    wrong = [*drill.wrong, *missing, *map(str, judgement.wrong)]
    double = sum(one.many for one in judgement.wrong if one.rule in _DOUBLE)
    verdict = Verdict(wrong, double, Counter(judgement.lost), judgement.kept, set_aside)
    verdict.wrong += await _compare_lists(drill, tables, list(of_load.books))
    verdict.wrong += await _remove_locks(drill, tables)
    await deployment.until_ready()
    deployment.held_keys |= {entry.key for entry in ledger.entries if entry.op in _KEYS_IN_REDIS}
    verdict.wrong += await unlike_rebuilt(deployment)
    verdict.wrong += await _compare_rollups(deployment)
    verdict.wrong += await _reconcile(deployment)
    verdict.wrong += [alarm for alarm in drill.alarms() if not any(expected in alarm for expected in alarms)]
    tables.close()
    return verdict


async def passed_limits(drill: Drill) -> list[str]:
    """The limits that are exceeded in Postgres, for a service that does not respond."""
    tables = Tables()
    for book in drill.books:
        tables.list_book(book, [], [])
    tables.insert("about", [(1, True, True)])
    standing = f"{_REDEMPTIONS} AND b.restore IS NOT TRUE"
    rows = await drill.deployment.pool.fetch(standing, [book.book_id for book in drill.books])
    tables.insert("redemptions", ((*tuple(row)[:10], "", 0) for row in rows))
    problems = [str(one) for one in tables.differences(LIMITS)]
    tables.close()
    return problems


async def _compare_lists(drill: Drill, tables: Tables, books: list[str]) -> list[str]:
    """Compare what the API lists of these books with Postgres's rows: no row and no field may differ."""
    differences = []
    for in_lists, in_postgres in _LISTS.items():
        listed = set(tables.query(in_lists))
        recorded = {tuple(row) for row in await drill.deployment.pool.fetch(in_postgres, books)}
        for difference, rows in (("listed, not in Postgres", listed - recorded), ("not listed", recorded - listed)):
            if rows:
                differences.append(f"{len(rows)} {difference}: {sorted(rows)[:3]}")
    return differences


async def _compare_rollups(deployment: Deployment) -> list[str]:
    """Compare the roll-ups of reports with the facts, as `scrip reports` does."""
    rows = await read_partitions(deployment.pool)
    counts = [(row.id, await compare_rollups(deployment.pool, row.id, False, lambda _: None)) for row in rows]
    return [f"{count} figures of reports differ from the facts of partition {row}" for row, count in counts if count]


async def _reconcile(deployment: Deployment) -> list[str]:
    """Compare Redis with Postgres, as `scrip reconcile` does."""
    problems = []
    for row in await read_partitions(deployment.pool):
        outcome = await reconcile(live_url(deployment), deployment.pool, row.id, repair=False)
        if outcome.differing or outcome.failed:
            problems.append(f"a comparison of partition {row.id} reports {dict(outcome.differing)} {outcome.failed}")
    return problems


async def _find_missing_events(drill: Drill) -> list[str]:
    """Check that each event of a server that clients left and came back to is recorded, or in quarantine."""
    problems = []
    for outbox in drill.outboxes:
        events = {tuple(map(int, at.split("-"))): d for at, d in outbox.items() if d[:2] in ("A ", "U ", "R ", "B ")}
        rows = await drill.deployment.pool.fetch("SELECT epoch, seq FROM facts UNION SELECT epoch, seq FROM quarantine")
        if missing := events.keys() - {tuple(row) for row in rows}:
            problems.append(f"{len(missing)} events are neither recorded nor in quarantine: {sorted(missing)[:5]}")
    return problems


async def _settle(drill: Drill) -> int:
    """Give the blocked codes of events that were not recorded before Redis was rebuilt the state of the record, as an
    operator does. Until then `coupon_inactive` was right: nothing else is judged of these responses. Return the number
    of events."""
    deployment = drill.deployment
    rows = await deployment.pool.fetch("DELETE FROM quarantine WHERE cause = 'unrecorded' RETURNING partition, d")
    blocked = {name.code for row in rows for name in read_names(row["d"])}
    drill.ledger.entries[:] = [
        entry
        for entry in drill.ledger.entries
        if entry.refusal != "coupon_inactive" or blocked.isdisjoint({entry.code, entry.body.get("code")})
    ]
    for partition in {row["partition"] for row in rows}:
        await wait_until(partial(_is_repaired, deployment, partition), "a comparison")
    return len(rows)


async def _is_repaired(deployment: Deployment, partition: int) -> bool:
    """Repair Redis; False if a part could not be compared, as counts while a change of configuration is on its way."""
    return not (await reconcile(live_url(deployment), deployment.pool, partition, repair=True)).unsettled


async def _remove_locks(drill: Drill, tables: Tables) -> list[str]:
    """Once abandoned locks have expired, lock each of their codes again and unlock it: then Redis stores nothing of
    them. Only Redis stores that a code of a book was locked while the book has no redemption, so redeem one code.
    Return the unexpected responses."""
    ask, books = drill.ledger.ask, {book.book_id: book for book in drill.books if book.kind in ("held", "left")}
    locks = tables.query("SELECT path, code, book_id, answered_ms FROM answers WHERE op = 'lock'")
    locks = [lock for lock in locks if lock[2] in books]
    await asyncio.sleep(max(0.0, max((at for *_, at in locks), default=0) + HOLD_S * 1000 + 100 - now_ms()) / 1000)
    asked = []
    for book_id, book in books.items():
        if book.kind == "held":
            body = {"userId": drill.crowd.mark}
            asked.append(await ask("last", f"/v1/coupons/redeem/{book.code(0)}", body, code=book.code(0)))
        else:
            body = {"maxRedemptions": 1000}
            asked.append(await ask("more", f"/v1/books/{book_id}", body, wanted={200}, method="PATCH"))
    for path, code in sorted({(path, code) for path, code, *_ in locks}):
        locked = await ask("tidy", path, {"userId": drill.crowd.mark}, "coupon_redeemed", wanted={201, 200}, code=code)
        asked.append(locked)
        if locked.succeeded:
            unlock, token = f"/v1/coupons/unlock/{code}", locked.response["lockToken"]
            asked.append(await ask("tidy", unlock, {"lockToken": token}, wanted={204}, code=code))
    return [f"{one.op} {one.path}: {one.status} {one.refusal}" for one in asked if not one.wanted]
