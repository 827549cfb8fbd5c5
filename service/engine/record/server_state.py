"""Postgres's sessions and its archive, as the server reports them: server_metrics.py shows them, doctor judges them."""

from datetime import datetime, timedelta

import msgspec

from service.engine.record.pool import Database
from service.engine.record.queries import query

ARCHIVE_WAIT = timedelta(minutes=5)
"""A finished file of the WAL that has waited for so long is taken for one on which archive_command hangs."""


class ServerState(msgspec.Struct, frozen=True):
    sessions: int
    """Of clients."""
    most_sessions: int
    """max_connections less what is reserved."""
    archives: bool
    """Whether archive_mode is on."""
    archived_at: datetime | None
    failed_at: datetime | None
    archive_waits: bool
    """Whether a finished file waits though none was archived for five minutes."""

    @property
    def archive_failed(self) -> bool:
        """Whether the newest attempt to archive has failed."""
        failed_at, archived_at = self.failed_at, self.archived_at
        return failed_at is not None and (archived_at is None or failed_at > archived_at)

    @property
    def archive_fails(self) -> bool:
        """Whether archiving fails or hangs."""
        return self.archives and (self.archive_failed or self.archive_waits)


async def read_server_state(database: Database, wait: timedelta = ARCHIVE_WAIT) -> ServerState:
    return ServerState(**await database.fetchrow(query("read_server"), wait))  # type: ignore[arg-type]
