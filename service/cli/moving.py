"""`scrip move`: order a worker to move a workspace to another partition (workspace_mover.py). main.py loads it."""

import asyncio
import time

import asyncpg
import click

from service.cli import worker_orders
from service.cli.admin import read_workspace_number
from service.cli.failures import with_record
from service.cli.partitions import PARTITION
from service.common.plurals import count_noun
from service.domain.configuration import WorkspaceRow
from service.hot.scripts import version
from service.record.config.audit_log import write_audit
from service.record.config.workspace_rows import read_workspace
from service.record.partitions import moves
from service.record.partitions.moves import Move, order_move, other_versions, read_move
from service.record.partitions.partition_rows import Partition, read_partition, read_partitions

LINE_S = 2.0
"""Between two lines of progress."""


@click.command(epilog="Example: scrip move shop 3 --dry-run")
@click.argument("name", metavar="WORKSPACE")
@click.argument("target", metavar="PARTITION", type=PARTITION)
@click.option("--dry-run", is_flag=True, help="Only check, and print the plan.")
@click.option("--cancel", is_flag=True, help="Withdraw an order that no worker has begun.")
@with_record
async def move(connection: asyncpg.Connection, name: str, target: int, dry_run: bool, cancel: bool) -> None:
    """Move a workspace to another partition.

    The command orders the move, and shows its progress and why an attempt has ended; a worker runs it. Requests go on:
    the workspace is closed (503 `recovering`) for a moment at the end, and no other workspace is. While its keys change
    faster than they are copied, it is also closed for parts of a second before. If anything dies meanwhile, the worker
    undoes or finishes the move by itself. Running the command again shows a move that was ordered, or reports that it
    is done.
    """
    number = await read_workspace_number(connection, name)
    if cancel:
        if not await moves.cancel_move(connection, number):
            raise click.ClickException(f"No move of {name} waits. One that has begun can't be withdrawn.")
        click.echo(f"The move of {name} is withdrawn.")
        return
    row, last = await read_workspace(connection, number), await moves.read_move(connection, number)
    is_unfinished = last is not None and last.state not in ("done", "failed")
    if last and is_unfinished and last.target != target:
        raise click.ClickException(
            f"A move of {name} to partition {last.target} is not finished. Wait for it (`scrip move {name} "
            f"{last.target}` shows its progress), or withdraw it with --cancel if no worker has begun."
        )
    if row.partition == target and not is_unfinished:
        click.echo(f"{name} is in partition {target}.")
        return
    if not is_unfinished:
        await _check(connection, row, target)
        keys = await moves.estimate_keys(connection, number)
        codes = count_noun(keys, "code")
        click.echo(f"{name} moves from partition {row.partition} to {target}: {codes}, and what belongs to them.")
        if dry_run:
            return
        await _order(connection, row, target)
    elif dry_run:
        click.echo(f"The move of {name} to partition {target} is {last.state if last else ''}.")
        return
    await _show_progress(connection, name, number)


async def _check(connection: asyncpg.Connection, row: WorkspaceRow, target: int) -> None:
    """Raises ClickException if the move can't be ordered."""
    rows = await read_partitions(connection)
    if target >= len(rows):
        raise click.ClickException(
            f"There is no partition {target} to move to. This database has the partitions 0 to {len(rows) - 1}."
        )
    for partition in (row.partition, target):
        if not rows[partition].lease_live:
            raise click.ClickException(f"No worker holds partition {partition}. Start one (`scrip worker`), and retry.")
        if rows[partition].state != "open":
            raise click.ClickException(
                f"Partition {partition} is closed. `scrip doctor` says why; retry when it is open again."
            )
    if await other_versions(connection, version()):
        raise click.ClickException("Processes of another version run. Finish the upgrade, and retry after a minute.")


async def _order(connection: asyncpg.Connection, row: WorkspaceRow, target: int) -> None:
    """Order and audit a move. Raises ClickException if another command was faster."""
    async with connection.transaction():
        if not await order_move(connection, row.workspace, row.partition, target):
            raise click.ClickException(f"Another command moves {row.name} now. Retry to see its progress.")
        before, after = {"partition": row.partition}, {"partition": target}
        await write_audit(connection, row.workspace, "workspace.moved", row.workspace_id, before, after)


class Progress:
    """What a move does, how many keys it copies a second, and how many are left."""

    def __init__(self) -> None:
        self._shown: tuple[str, str] | None = None
        self._at, self._done = 0.0, 0

    def next_line(self, move: Move, now: float) -> str:
        """The line to show now: at once if the worker does something else, and every LINE_S; '' for none."""
        is_new = (move.state, move.reason) != self._shown
        if move.state == "done" or not (move.reason or move.attempts) or not (is_new or now >= self._at + LINE_S):
            return ""
        rate = (move.done - self._done) / (now - self._at) if self._at and move.done >= self._done else 0.0
        self._shown, self._at, self._done = (move.state, move.reason), now, move.done
        if move.state == "clearing":
            return "it has moved; the worker removes its old keys"
        if move.state == "ordered" or not move.total:
            return move.reason
        left = max(0, move.total - move.done)
        return f"{move.reason}; {move.done} keys are copied ({rate:.0f} a second), about {left} are left"


async def _show_progress(connection: asyncpg.Connection, name: str, number: int) -> None:
    """Read a workspace's move five times a second and show its progress, until it is done. Raises ClickException if it
    fails, is withdrawn, or doesn't begin in time."""
    deadline, had_worker, progress = time.monotonic() + worker_orders.WORKER_S, True, Progress()
    while True:
        move = await read_move(connection, number)
        if move is None:
            raise click.ClickException(f"The move of {name} was withdrawn.")
        if move.state == "failed":
            raise click.ClickException(
                f"{name} stays in partition {move.source}: {move.reason}. Run the command again to retry."
            )
        if not move.attempts and time.monotonic() > deadline:
            raise click.ClickException(await _explain_no_start(connection, move))
        if line := progress.next_line(move, time.monotonic()):
            click.echo(f"Moving {name}: {line}")
        if move.state == "done":
            break
        source = await read_partition(connection, move.source)
        if had_worker and not source.lease_live:
            click.echo(f"No worker holds partition {source.id} now. The move goes on when one does.", err=True)
        had_worker = bool(source.lease_live)
        await asyncio.sleep(worker_orders.POLL_S)
    click.echo(
        f"{name} is in partition {move.target}. It was closed for {move.closed_ms} ms; {move.done} keys were copied."
    )


async def _explain_no_start(connection: asyncpg.Connection, move: Move) -> str:
    rows: list[Partition] = await read_partitions(connection)
    hint = "The order stays; --cancel withdraws it."
    for partition in (move.source, move.target):
        if not rows[partition].lease_live:
            return f"No worker holds partition {partition}. Start one (`scrip worker`). {hint}"
    reason = move.reason or "its log names the reason (`move_waits`)"
    return f"The worker of partition {move.source} has not begun: {reason}. {hint}"
