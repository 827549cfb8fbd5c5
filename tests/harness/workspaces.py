"""Workspaces of a partition that the test chooses."""

from typing import Any, Literal

from service.engine.operations.caller import SCOPES
from service.server.in_postgres.key_rows import create_key
from service.server.in_postgres.workspace_rows import create_workspace


async def make_workspace(
    connection: Any, name: str, mode: Literal["live", "test"], partition: int | None = None
) -> None:
    """Make a workspace, in this partition, and its keys: `<name>_<scope>` with each scope, `<name>_admin` with all."""
    while True:  # its random id chooses the partition
        transaction = connection.transaction()
        await transaction.start()
        row = await create_workspace(connection, name, mode)
        if partition in (None, row.partition):
            break
        await transaction.rollback()
    for key, scopes in ({scope: [scope] for scope in SCOPES} | {"admin": list(SCOPES)}).items():
        await create_key(connection, row.workspace, key, scopes, f"{name}_{key}")
    await transaction.commit()
