"""Change the number of partitions (docs/decisions/0059)."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import click

from service.cli import orders
from service.cli.failures import connect_to_record
from service.cli.moving import check_movable, follow_move, order

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from service.cli.placement import Step
    from service.common.config import Settings
    from service.record.partitions.partition_rows import Partition

RENEW_S = 2.0
STEP_TIMEOUT_S = 60.0
"""Time for the workers to open new partitions, or to remove one that is empty."""


async def resize_partitions(settings: "Settings", number: int, dry_run: bool) -> None:
    """Change the number of partitions.

    1. Check that each partition is open and has a worker of this version.
    2. Set the number that is wanted, and create the missing partitions: from here on new workspaces and moves go only
       to the first `number`.
    3. Wait until all are open, and moves that were ordered before are done.
    4. Move one workspace after the other, until they are spread evenly.
    5. Wait until workers have removed the partitions that are no longer wanted.

    Each step can be repeated, so after any failure the command continues when it is run again. Raises ClickException.
    """
    from service.record.partitions.partition_rows import read_partitions, recorded_partitions

    async with connect_to_record(settings) as connection:
        rows, recorded = await read_partitions(connection), await recorded_partitions(connection)
        if not rows:
            raise click.ClickException(
                "The database has no partitions yet. Start a worker (`scrip worker`), and retry."
            )
        await check_movable(connection, rows, range(len(rows)))
        if dry_run:
            await _print_plan(connection, number, recorded or 0, len(rows))
            return
        async with _claim(connection, number) as resize:
            await resize.wait_until_open()
            moved = await resize.move_all()
            await resize.wait_for_removal()
    click.echo(
        f"There {'is' if number == 1 else 'are'} {_count(number, 'partition')}. {_count(moved, 'workspace')} moved."
    )


async def _print_plan(connection: "asyncpg.Connection", number: int, recorded: int, existing: int) -> None:
    from service.cli.placement import plan_moves
    from service.record.partitions.resizes import read_placements

    steps = plan_moves(await read_placements(connection), number)
    unfinished = f", of which {existing - recorded} are to be removed" if existing > recorded else ""
    click.echo(f"There are {_count(existing, 'partition')}{unfinished}; {number} are wanted.")
    if number > existing:
        click.echo(f"{_span(existing, number)} created.")
    click.echo(f"{_count(len(steps), 'workspace')} to move{':' if steps else '.'}")
    for one, target in steps:
        click.echo(f"  {one.name}: {one.partition} to {target} ({one.codes} codes)")
    if number < existing:
        click.echo(f"{_span(number, existing)} removed.")


@asynccontextmanager
async def _claim(connection: "asyncpg.Connection", number: int) -> AsyncIterator["_Resize"]:
    """Set the number, and have the claim meanwhile. Raises ClickException if another command has it."""
    from service.record.partitions.resizes import CLAIM_S, claim_resize, end_resize

    command = uuid4()
    if not await claim_resize(connection, number, command):
        raise click.ClickException(
            f"Another `scrip partitions resize` runs, or was killed less than {CLAIM_S:.0f} s ago. "
            "Retry when it has ended."
        )
    try:
        yield _Resize(connection, number, command)
    finally:
        with contextlib.suppress(Exception):  # the connection may have broken; then the claim ends by itself
            await end_resize(connection, command)


class _Resize:
    """The steps of a command that has the claim. All raise ClickException if they can't go on."""

    def __init__(self, connection: "asyncpg.Connection", number: int, command: UUID) -> None:
        self._connection, self._number, self._command = connection, number, command
        self._renew_at = 0.0

    async def wait_until_open(self) -> None:
        """Wait until the wanted partitions are open."""
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while closed := [row.id for row in await self._partitions() if row.id < self._number and row.state != "open"]:
            if time.monotonic() > deadline:
                raise click.ClickException(
                    f"No worker has opened partition {closed[0]}. `scrip doctor` says why; then run the command again."
                )
            await self._pause()

    async def move_all(self) -> int:
        """Move workspaces until they are spread evenly; return how many have moved."""
        from service.cli.placement import plan_moves
        from service.record.partitions.resizes import read_placements, unfinished_moves

        moved = 0
        while True:
            names = {one.workspace: one.name for one in await read_placements(self._connection)}
            for move in await unfinished_moves(self._connection):
                await self._follow(names[move.workspace], move.workspace, lambda _: None)
            steps = plan_moves(await read_placements(self._connection), self._number)
            if not steps:
                return moved
            length = sum(max(1, step.workspace.codes) for step in steps)
            with click.progressbar(length=length, label=f"Moving {_count(len(steps), 'workspace')}") as bar:
                for step in steps:
                    start, size = bar.pos, max(1, step.workspace.codes)
                    moved += await self._move(step, lambda share: bar.update(start + int(size * share) - bar.pos))  # noqa: B023

    async def wait_for_removal(self) -> None:
        """Wait until no more partitions than wanted exist."""
        left = len(await self._partitions()) - self._number
        if left <= 0:
            return
        deadline = time.monotonic() + STEP_TIMEOUT_S
        with click.progressbar(length=left, label=f"Removing {_count(left, 'partition')}") as bar:
            while (now := len(await self._partitions()) - self._number) > 0:
                if left - now > bar.pos:
                    bar.update(left - now - bar.pos)
                    deadline = time.monotonic() + STEP_TIMEOUT_S
                elif time.monotonic() > deadline:
                    raise click.ClickException(
                        f"No worker removes partition {self._number + now - 1}, which is empty. `scrip doctor` and the "
                        "worker's log say why; then run the command again."
                    )
                await self._pause()
            bar.update(left - bar.pos)

    async def _move(self, step: "Step", show: "Callable[[float], None]") -> bool:
        """Move a workspace. False if it is elsewhere: another command has moved it."""
        from service.record.config.workspace_rows import read_workspace

        row = await read_workspace(self._connection, step.workspace.workspace)
        if row.partition != step.workspace.partition:
            return False
        await order(self._connection, row, step.target)
        await self._follow(row.name, row.workspace, show)
        return True

    async def _follow(self, name: str, workspace: int, show: "Callable[[float], None]") -> None:
        """Wait until a move is done; `show` gets the part that is done, up to 1."""
        async for move in follow_move(self._connection, name, workspace):
            await self._renew()
            show(1.0 if move.state == "done" else min(1.0, move.done / max(1, move.total)))

    async def _partitions(self) -> "list[Partition]":
        from service.record.partitions.partition_rows import read_partitions

        return await read_partitions(self._connection)

    async def _pause(self) -> None:
        await self._renew()
        await asyncio.sleep(orders.POLL_S)

    async def _renew(self) -> None:
        """Renew the claim when it is due."""
        from service.record.partitions.resizes import renew_resize

        if (now := time.monotonic()) >= self._renew_at:
            self._renew_at = now + RENEW_S
            if not await renew_resize(self._connection, self._command):
                raise click.ClickException("Another `scrip partitions resize` has taken over.")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _span(first: int, end: int) -> str:
    """The beginning of a sentence about the partitions from `first` to below `end`."""
    return f"Partition {first} is" if end - first == 1 else f"The partitions {first} to {end - 1} are"
