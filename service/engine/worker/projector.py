"""Write configuration into Redis for a worker. A row that can't be written is skipped with an alarm. restorer.py
and projection_catchup.py call this. The version is written after its rows, as it says that Redis has them."""

import msgspec
import structlog

from service.common.logs import workspace_names
from service.engine.domain.configuration import BookRow, CodeRow, UserRow, WorkspaceRow
from service.engine.hot.projection import RedisProjector
from service.engine.hot.redis_server import ScriptFailed
from service.engine.record.actor import mask
from service.engine.record.changes import Change, Unreadable
from service.engine.worker.task_supervisor import reason_of

_ROW_ERRORS = (ValueError, TypeError, LookupError, msgspec.MsgspecError)
"""Errors of the row itself; ScriptFailed has those of Redis."""

log = structlog.get_logger()


async def project(projector: RedisProjector, partition: int, change: Change) -> None:
    """Write a change's rows, then the version up to which Redis has everything. Skip a row that can't be read or
    written; the codes of a skipped book can't be used."""
    rows = change.rows
    for unreadable in change.unreadable:
        await _skip(projector, partition, unreadable, "unreadable")
    if rows and isinstance(rows[0], CodeRow):
        await project_codes(projector, partition, change)
    for row in rows:
        try:
            match row:
                case WorkspaceRow():
                    workspace_names[row.workspace] = row.name, str(row.workspace_id)
                    await projector.workspace(row)
                case BookRow():
                    await projector.book(row)
                case UserRow():
                    await projector.user(row)
        except (*_ROW_ERRORS, ScriptFailed) as error:
            if isinstance(error, ScriptFailed) and not error.is_own:
                raise
            await _skip(projector, partition, _describe_row(row), reason_of(error))
    await projector.seen_all(partition, change.version)


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


def _describe_row(row: object) -> Unreadable:
    kind = type(row).__name__.removesuffix("Row").lower() + "s"
    book = (row.book, row.book_id) if isinstance(row, BookRow) else (None, None)
    return Unreadable(kind, row.workspace, row.version, *book)  # type: ignore[attr-defined]


async def _skip(projector: RedisProjector, partition: int, row: Unreadable, reason: str) -> None:
    about = {"partition": partition, "workspace": row.workspace, "version": row.version, "book": row.book}
    log.error("configuration_left_out", kind=row.kind, reason=reason, **about)
    if row.book is not None and row.book_id is not None:
        await projector.close_book(partition, row.workspace, row.book, row.book_id, row.version)
