"""What reports cost: their responses on roll-ups as 100 million redemptions leave them, and a new count of facts.

First 400 days of roll-ups are written, of each book in each hour, and each report is asked for several times. Then so
many real redemptions are written, without roll-ups: `scrip reports --repair` counts them, and a report must have their
sums to the cent. On a `scrip run` of its own, with one client."""

import argparse
import asyncio
import statistics
import time
from decimal import Decimal

import asyncpg
import httpx

from loadtests.figures import markdown, say
from loadtests.own import own_service, scrip
from loadtests.parts.past import write_past
from service.server.in_postgres.samples import REPORT_DAYS
from tests.harness.running import Run

REDEMPTIONS = 100_000_000
"""In the roll-ups."""
BOOKS = [{"name": f"Book {number}", "tags": [f"tag-{number % 5}"]} for number in range(50)]
SALES, FUNNEL = "/v1/reports/redemptions", "/v1/reports/funnel"
_ROLLUPS = """
INSERT INTO report_sums
SELECT
  $1, step, start, counted.book, 'USD', uses, uses / 50, uses * 59.90, uses * 8.98, uses, uses / 2, uses / 4, uses / 4,
  uses / 4
FROM (VALUES ('hour', 1), ('day', 24)) AS steps (step, hours)
CROSS JOIN LATERAL generate_series(
  date_trunc(step, now()) - $4 * interval '1 day', now(), hours * interval '1 hour'
) AS start
CROSS JOIN LATERAL (
  SELECT unnest($2::int[]), $3::bigint * hours UNION ALL SELECT 0, $3 * hours * cardinality($2)
) AS counted (book, uses)
"""
_TRAFFIC = """
INSERT INTO traffic_samples
SELECT $1, 3600, hour, '{"locked": 9000, "released": 300, "redeemed": 8000, "coupon_locked": 700, "coupon_redeemed": 90,
  "out_of_stock": 4, "user_redemption_limit": 12, "rate_limited": 1}', '{}'
FROM generate_series(date_trunc('hour', now()) - $2 * interval '1 day', now(), '1 hour') AS hour ON CONFLICT DO NOTHING
"""
_FACTS = "SELECT count(*), sum(order_value), sum(discount_amount) FROM redemptions WHERE workspace = $1"


def add_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--redemptions", type=int, default=REDEMPTIONS, help="in the roll-ups (%(default)s)")
    options.add_argument("--facts", type=int, default=200_000, help="real redemptions (%(default)s)")
    options.add_argument("--rounds", type=int, default=10, help="requests of each report (%(default)s)")


def run(chosen: argparse.Namespace) -> int:
    """1 if a report differs from the facts."""
    return asyncio.run(_measure(chosen))


async def _measure(chosen: argparse.Namespace) -> int:
    with own_service() as service:
        unbounded = {"statement_timeout": "0"}
        database = await asyncpg.connect(service.facts["databaseUrl"], server_settings=unbounded, command_timeout=600.0)
        headers = {"Authorization": "Bearer demo_admin"}
        try:
            async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=600.0) as client:
                for book in BOOKS:
                    (await client.post("/v1/books", json=book)).raise_for_status()
                await write_rollups(database, "demo", chosen.redemptions)
                rows = [(name, *await _ask(client, address, chosen.rounds)) for name, address in list_reports()]
                print(markdown(("report", "items", "median, ms", "slowest, ms"), rows))
                return await _count_facts(service, client, database, chosen.facts)
        finally:
            await database.close()


async def write_rollups(
    database: asyncpg.Connection, name: str, redemptions: int = REDEMPTIONS, days: int = REPORT_DAYS
) -> None:
    """Write the hours of all of BOOKS, which the workspace of this name has, and its counts of responses."""
    workspace, books = await _find_books(database, name, "Book %")
    uses = redemptions // (days * 24 * len(books))
    await database.execute(_ROLLUPS, workspace, books, uses, days)
    await database.execute(_TRAFFIC, workspace, days)
    await database.execute("VACUUM (ANALYZE) report_sums, traffic_samples, books")
    rows = await database.fetchval("SELECT count(*) FROM report_sums")
    size = await database.fetchval("SELECT pg_total_relation_size('report_sums') / 1048576")
    say(f"{rows:,} rows of roll-ups, {size} MiB")


async def _find_books(database: asyncpg.Connection, workspace: str, books: str) -> tuple[int, list[int]]:
    rows = await database.fetch(
        "SELECT workspace, book FROM books JOIN workspaces w USING (workspace) "
        "WHERE w.name = $1 AND books.name LIKE $2",
        workspace,
        books,
    )
    return rows[0]["workspace"], [row["book"] for row in rows]


def list_reports() -> list[tuple[str, str]]:
    """Names of reports, with their addresses."""

    def since(days: int) -> str:
        return f"from={time.strftime('%FT%TZ', time.gmtime(time.time() - days * 86_400))}"

    year, month = since(REPORT_DAYS - 1), since(30)
    return [
        ("400 days", f"{SALES}?{year}"),
        ("57 weeks", f"{SALES}?{year}&interval=week"),
        ("a month by hours", f"{SALES}?{month}&interval=hour"),
        ("57 weeks, by tag", f"{SALES}?{year}&interval=week&groupBy=tag"),
        ("57 weeks, by book", f"{SALES}?{year}&interval=week&groupBy=book"),
        ("a month of days, by book", f"{SALES}?{month}&groupBy=book"),
        ("400 days of a tag", f"{SALES}?{year}&tag=tag-1"),
        ("the way, 400 days", f"{FUNNEL}?{year}"),
        ("the way, a month by book", f"{FUNNEL}?{month}&groupBy=book"),
    ]


async def _ask(client: httpx.AsyncClient, address: str, rounds: int) -> tuple[str, str, str]:
    took_ms, items = [], 0
    for _ in range(rounds):
        began = time.perf_counter()
        response = (await client.get(address)).raise_for_status()
        took_ms.append((time.perf_counter() - began) * 1000)
        items = len(response.json()["items"])
    return f"{items:,}", f"{statistics.median(took_ms):.0f}", f"{max(took_ms):.0f}"


async def _count_facts(service: Run, client: httpx.AsyncClient, database: asyncpg.Connection, redemptions: int) -> int:
    """Count real redemptions again, and compare a report with them; 1 if it differs."""
    (await client.post("/v1/books", json={"name": "Real"})).raise_for_status()
    workspace, books = await _find_books(database, "demo", "Real")
    await write_past(database, workspace, 0, books, redemptions + 1, redemptions, 3)
    began = time.monotonic()
    await scrip(service, "reports", "--repair")
    took_s = time.monotonic() - began
    items = (await client.get(SALES)).raise_for_status().json()["items"]
    counted = (
        sum(item["redemptions"] for item in items),
        *(sum((Decimal(item[name]) for item in items), Decimal(0)) for name in ("orderValue", "discountAmount")),
    )
    expected = tuple(await database.fetchrow(_FACTS, workspace) or ())
    say(f"{redemptions:,} redemptions counted anew in {took_s:.1f} s; facts {expected}, report {counted}")
    return int(counted != expected)
