"""Write configuration into Redis for a worker. A row that can't be read or written is set aside, and tried again.
restorer.py and projection_catchup.py call this. The version is written after its rows, as it says that Redis has
them."""

from collections.abc import Container

import msgspec
import structlog

from service.common.logs import workspace_names
from service.engine.domain.configuration import BookRow, CodeRow, UserRow, WorkspaceRow
from service.engine.hot.projection import RedisProjector
from service.engine.hot.redis_server import ScriptFailed
from service.engine.record.actor import mask
from service.engine.record.changes import Change, Row, Unreadable
from service.engine.worker.set_aside import SetAside, Thing

_ROW_ERRORS = (ValueError, TypeError, LookupError, msgspec.MsgspecError)
"""Errors of the row itself; ScriptFailed has those of Redis."""

log = structlog.get_logger()


PROJECTING = "projecting"
"""The task that sets rows aside: an alert knows it (deploy/observability/rules.yaml)."""


async def project(
    projector: RedisProjector, partition: int, change: Change, set_aside: SetAside, only: Container[str] | None = None
) -> set[str]:
    """Write a change's rows, or only those of these things, then the version up to which Redis has everything. Set
    aside a row that can't be read or written; the codes of such a book can't be used. Return the things set aside."""
    failed = set[str]()

    async def set_row_aside(row: Unreadable) -> None:
        thing = _name(row)
        failed.add(thing.name)
        await set_aside.add(thing, row.error)
        if row.book is not None and row.book_id is not None:
            await projector.close_book(partition, row.workspace, row.book, row.book_id, row.version)

    for unreadable in change.unreadable:
        await set_row_aside(unreadable)
    if change.rows and isinstance(change.rows[0], CodeRow):
        await project_codes(projector, partition, change)
    for row in change.rows:
        if only is not None and _name(row).name not in only:
            continue
        try:
            await _write(projector, row)
        except (*_ROW_ERRORS, ScriptFailed) as error:
            if isinstance(error, ScriptFailed) and not error.is_own:
                raise
            book = (row.book, row.book_id) if isinstance(row, BookRow) else (None, None)
            await set_row_aside(Unreadable(type(row).__name__, row.workspace, row.version, *book, error))
    await projector.advance_config(partition, change.version)
    return failed


async def _write(projector: RedisProjector, row: Row) -> None:
    match row:
        case WorkspaceRow():
            workspace_names[row.workspace] = row.name, str(row.workspace_id)
            await projector.workspace(row)
        case BookRow():
            await projector.book(row)
        case UserRow():
            await projector.user(row)


async def project_codes(projector: RedisProjector, partition: int, change: Change, whole: bool = False) -> None:
    """Write the codes of a change, without its version. `whole`: during a whole rebuild."""
    by_workspace: dict[int, list[CodeRow]] = {}
    for row in change.rows:
        by_workspace.setdefault(row.workspace, []).append(row)  # type: ignore[arg-type]
    for workspace, codes in by_workspace.items():
        await projector.codes(workspace, partition, change.version, codes, whole=whole)


def log_skipped_code(row: CodeRow) -> None:
    """Log the alarm about a code on which Redis has an error; the directory does not get it."""
    log.error("code_left_out", partition=row.partition, workspace=row.workspace, code=mask(row.code))


def _name(row: Unreadable | Row) -> Thing:
    """What is set aside: a book, or a workspace's settings and users."""
    if isinstance(row, BookRow | Unreadable) and row.book_id:
        return Thing(f"book {row.book_id}", row.workspace)
    return Thing(f"workspace {row.workspace}", row.workspace)
