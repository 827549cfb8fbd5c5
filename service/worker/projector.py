"""Configuration on its way from Postgres into Redis, by a worker: what can't be written is left out with an alarm."""

import msgspec
import structlog

from service.access.actor import mask
from service.domain.configuration import BookRow, CodeRow, UserRow, WorkspaceRow
from service.hot.projection import RedisProjector
from service.hot.redis_server import ScriptFailed
from service.record.config.changes import Change, Unreadable
from service.worker.task_supervisor import reason_of

_OWN = (ValueError, TypeError, LookupError, msgspec.MsgspecError)
"""What a row raises for its own sake; of what Redis refuses see ScriptFailed."""

log = structlog.get_logger()


async def project(projector: RedisProjector, partition: int, change: Change) -> None:
    """Write a change's rows, and remember that everything up to its version is there. A row that can't be read or
    written is left out: of a book no code is usable then."""
    rows = change.rows
    for unreadable in change.unreadable:
        await _leave_out(projector, partition, unreadable, "unreadable")
    if rows and isinstance(rows[0], CodeRow):
        await project_codes(projector, partition, change)
    for row in rows:
        try:
            match row:
                case WorkspaceRow():
                    await projector.workspace(row)
                case BookRow():
                    await projector.book(row)
                case UserRow():
                    await projector.user(row)
        except (*_OWN, ScriptFailed) as error:
            if isinstance(error, ScriptFailed) and not error.is_own:
                raise
            await _leave_out(projector, partition, _named(row), reason_of(error))
    await projector.seen_all(partition, change.version)


async def project_codes(projector: RedisProjector, partition: int, change: Change, whole: bool = False) -> None:
    """Write a version's codes."""
    by_workspace: dict[int, list[CodeRow]] = {}
    for row in change.rows:
        by_workspace.setdefault(row.workspace, []).append(row)  # type: ignore[arg-type]
    for workspace, codes in by_workspace.items():
        await projector.codes(workspace, partition, change.version, codes, whole=whole)


def leave_out_code(row: CodeRow) -> None:
    """The alarm about a code that Redis has an error on; the directory doesn't get it."""
    log.error("code_left_out", partition=row.partition, workspace=row.workspace, code=mask(row.code))


def _named(row: object) -> Unreadable:
    kind = type(row).__name__.removesuffix("Row").lower() + "s"
    book = (row.book, row.book_id) if isinstance(row, BookRow) else (None, None)
    return Unreadable(kind, row.workspace, row.version, *book)  # type: ignore[attr-defined]


async def _leave_out(projector: RedisProjector, partition: int, row: Unreadable, reason: str) -> None:
    about = {"partition": partition, "workspace": row.workspace, "version": row.version, "book": row.book}
    log.error("configuration_left_out", kind=row.kind, reason=reason, **about)
    if row.book is not None and row.book_id is not None:
        await projector.close_book(partition, row.workspace, row.book, row.book_id, row.version)
