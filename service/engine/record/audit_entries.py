"""The audit: who changed what, written in the change's own transaction. Each change of configuration calls
`write_audit`. Names of actions are in the API, audit.js, audit.sql and 0005_audit.sql. Pass no whole code."""

from typing import Any

import msgspec

from service.engine.record.actor import current_actor
from service.engine.record.pool import Connection
from service.engine.record.queries import query
from service.engine.record.stored_json import encode_json

_UNAUDITED = ("updatedAt", "jobId")


async def write_audit(
    connection: Connection, workspace: int, action: str, subject: object, before: Any = None, after: Any = None
) -> None:
    """Audit a change in its transaction. Given `before` and `after`, store their differences, without _UNAUDITED."""
    if before is not None and after is not None:
        old, new = msgspec.to_builtins(before), msgspec.to_builtins(after)
        changed = [name for name in new if name not in _UNAUDITED and old.get(name) != new[name]]
        before, after = ({name: of[name] for name in changed} for of in (old, new))
    actor = current_actor.get()
    values = (workspace, *actor, action, str(subject), encode_json(before), encode_json(after))
    await connection.execute(query("insert_audit"), *values)
