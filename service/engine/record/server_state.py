"""Postgres's sessions and its archive, as the server reports them: server_metrics.py shows them, doctor judges them."""

from datetime import datetime

import msgspec

from service.engine.record.pool import Database
from service.engine.record.queries import query


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
    """Whether a full segment has waited for five minutes."""

    @property
    def archive_fails(self) -> bool:
        """Whether the newest attempt to archive has failed, or hangs."""
        failed_at, archived_at = self.failed_at, self.archived_at
        has_failed = failed_at is not None and (archived_at is None or failed_at > archived_at)
        return self.archives and (has_failed or self.archive_waits)


async def read_server_state(database: Database) -> ServerState:
    return ServerState(**await database.fetchrow(query("read_server")))  # type: ignore[arg-type]
