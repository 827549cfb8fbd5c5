"""`scrip recover`: decide what becomes of what Redis has and an older Postgres lacks. main.py loads it;
partition_opening.py does what is chosen. Names in the JSON of the plan stay."""

from contextlib import aclosing, closing
from typing import Any

import asyncpg
import click

from service.cli.failures import with_record
from service.cli.partitions import PARTITION
from service.cli.rebuild import find_partitions, show_progress
from service.cli.tables import render_json, render_table
from service.common import config
from service.common.plurals import count_noun
from service.common.running_service import RunningService, find_service
from service.engine.hot.connection import connect
from service.engine.hot.redis_server import Server
from service.engine.record import pool as postgres
from service.engine.record.actor import mask
from service.engine.record.audit_entries import write_audit
from service.engine.record.partitions.failing_tasks import read_failing
from service.engine.record.partitions.openings import SurplusChoice, order_rebuild
from service.engine.record.partitions.partition_rows import Partition
from service.engine.worker.opening.older_postgres import find_surplus
from service.engine.worker.opening.surplus_survey import SurplusReport, SurplusSurvey
from service.server.in_postgres.comparisons import workspaces_of
from service.server.in_postgres.workspace_rows import read_workspace_names

_ROWS = {
    "recorded": ("events in the outbox", "recorded", "dropped"),
    "assigned": ("assignments, no longer in the outbox", "recorded", "dropped"),
    "blocked": ("codes that were sold by lost events", "blocked", "free again, if Postgres has them"),
    "orders": ("orders of such codes", "kept with the code", "dropped"),
    "users": ("counts of users that are higher", "as in Postgres", "as in Postgres"),
    "returned": ("uses and assignments given back", "as in Postgres", "as in Postgres"),
    "unknown_codes": ("codes that Postgres does not have", "not sold any more", "not sold any more"),
    "unknown_books": ("books that Postgres does not have", "not sold any more", "not sold any more"),
    "absent_books": ("books of which Redis has no code", "switched off", "on sale"),
}
"""By the names of SurplusReport.counts: what Redis has, and what becomes of it by --apply and by --discard."""


@click.command(epilog="Example: scrip recover --plan")
@click.option("--plan", is_flag=True, help="Only show what would be done; the default.")
@click.option("--apply", is_flag=True, help="Carry over into Postgres what Redis has.")
@click.option("--discard", is_flag=True, help="Drop what only Redis has: sold codes are free again.")
@click.option("--partition", type=PARTITION, help="Only this partition; default: all that need it.")
@click.option("--yes", is_flag=True, help="Discard without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as a JSON array.")
def recover(plan: bool, apply: bool, discard: bool, partition: int | None, yes: bool, as_json: bool) -> None:
    """Recover from a Postgres that is older than Redis.

    Such a partition stays closed. If the newer Postgres can be brought back, do that: the partition opens by itself,
    and nothing is lost. If it is gone, choose.

    --apply records what is still in the outbox. Codes that were sold by lost events are blocked: `scrip quarantine`
    settles or releases each. --discard drops all that, and frees the codes. Both rebuild Redis from
    Postgres, and are in the audit. Use --apply also if unrecorded events were lost (`OutboxGap` in `scrip doctor`).
    """
    if plan + apply + discard > 1:
        raise click.UsageError("Choose one of --plan, --apply and --discard.")
    choice = "apply" if apply else "discard" if discard else "plan"
    if as_json and choice != "plan":
        raise click.UsageError("--json belongs to --plan.")
    _recover(choice, partition, yes, as_json)


@with_record
async def _recover(connection: asyncpg.Connection, choice: str, only: int | None, yes: bool, as_json: bool) -> None:
    rows, service = await find_partitions(connection, only), find_service(config.load(), "REDIS_URL", "DATABASE_URL")
    plans = [plan for row in rows if (plan := await _plan(service, row, only))]
    names = await read_workspace_names(connection)
    if as_json:
        click.echo(render_json([_outline(*plan, names) for plan in plans]))
        return
    if not plans:
        click.echo("Postgres has everything that Redis has.")
        return
    for row, lacks, report in plans:
        _print_plan(row, lacks, report, names)
    if choice == "plan":
        return
    freed = sum(report.freed for _, _, report in plans)
    if choice == "discard" and not yes:
        click.confirm(f"Discard, and free {count_noun(freed, 'sold or assigned code')}?", abort=True)
    for row, lacks, report in plans:
        await _order(connection, row.id, "apply" if choice == "apply" else "discard", lacks, report)
    for row, _, _ in plans:
        await show_progress(connection, row)
    if choice == "apply":
        click.echo("`scrip quarantine list` shows what waits for a decision.")


async def _plan(
    service: RunningService, row: Partition, only: int | None
) -> tuple[Partition, str, SurplusReport] | None:
    """What Redis has of the partition and Postgres lacks; None if it is nothing, or only what the worker records. A
    partition that is named is read in any case."""
    async with await postgres.connect(service.database_url, name="scrip command", max_size=2) as pool:
        with closing(await connect(service.redis_url, "scrip-command", partition=row.id)) as connection:
            server = Server(connection, row.id)
            surplus = await find_surplus(server, pool)
            has_gap = any(task.reason == "OutboxGap" for task in await read_failing(pool, row.id))
            if not surplus and not has_gap and only is None:
                return None
            survey = SurplusSurvey(server, pool)
            for pages in (survey.outbox(), survey.codes()):
                async with aclosing(pages):
                    async for _ in pages:
                        pass
    lost = "Events were lost before they were recorded" if has_gap else "Postgres has everything but the outbox's end"
    return row, str(surplus or lost), survey.report


def _print_plan(row: Partition, lacks: str, report: SurplusReport, names: dict[int, str]) -> None:
    counts = report.counts()
    lines = [(what, counts[name], *done) for name, (what, *done) in _ROWS.items() if counts[name]]
    click.echo(f"Partition {row.id}: {lacks}.")
    if row.state == "open":
        click.echo("It is open: the figures are of this moment.")
    if lines:
        click.echo(render_table(["REDIS HAS", "NUMBER", "--apply", "--discard"], lines))
    click.echo(f"--discard frees {count_noun(report.freed, 'sold or assigned code')}.")
    named = report.listed[:10]
    for workspace, code in named:
        click.echo(f"  blocked by --apply: {mask(code)} of workspace {names.get(workspace, workspace)}")
    if more := counts["blocked"] - len(named):
        click.echo(f"  blocked by --apply: {count_noun(more, 'more code')}")


def _outline(row: Partition, lacks: str, report: SurplusReport, names: dict[int, str]) -> dict[str, Any]:
    return {
        "partition": row.id,
        "state": row.state,
        "lacks": lacks,
        **report.counts(),  # the lists below take the places of the numbers of the same names
        "unknown_books": report.unknown_books,
        "absent_books": [book.book_id for book in report.absent_books],
        "blocked_codes": [
            {"workspace": names.get(workspace, str(workspace)), "code": mask(code)} for workspace, code in report.listed
        ],
    }


async def _order(
    connection: asyncpg.Connection, partition: int, choice: SurplusChoice, lacks: str, report: SurplusReport
) -> None:
    async with connection.transaction():
        await order_rebuild(connection, partition, f"an operator chose to {choice}: {lacks}", choice)
        for workspace in await workspaces_of(connection, partition):
            await write_audit(connection, workspace, f"recovery.{choice}", partition, after=report.counts())
