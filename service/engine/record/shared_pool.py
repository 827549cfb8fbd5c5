"""The pool of an API process: workspaces share its connections, and the process has the rest for itself. auth.py and
recall.py set the workspace for which a task works; a task without one works for the process."""

import asyncio
from contextvars import ContextVar
from typing import Any

import asyncpg

from service.common.fair_queue import FairGate
from service.engine.domain.errors import Refusal

WAIT_S = 10.0
"""How long a workspace's statement waits for a connection. Then it fails as if Postgres were away."""
MAX_WAITING = 256
"""Beyond so many statements that wait, a workspace's requests that need Postgres are refused before they begin."""
LEAST = 3
"""Connections of a process: one of its own, and one of each of two workspaces."""

current_workspace: ContextVar[int | None] = ContextVar("workspace", default=None)
_is_within: ContextVar[bool] = ContextVar("is_within", default=False)
# Whether the task has a connection: if a second one had to wait, it might wait for the first.


class SharedPool(asyncpg.Pool):
    """All workspaces have the connections but one, a workspace at most half of these; others wait, and workspaces take
    turns. So statements of one workspace, however slow, keep neither others nor the poll of keys from a connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        shared = max(1, options["max_size"] - 1)
        self.gate = FairGate(shared, max(1, shared // 2))

    def acquire(self, *, timeout: float | None = None) -> Any:
        """A connection within an `async with` block. Raises TimeoutError after WAIT_S."""
        workspace = current_workspace.get()
        connecting = super().acquire(timeout=timeout)
        return connecting if workspace is None or _is_within.get() else _InTurn(self.gate, workspace, connecting)


def check_waiting(pool: asyncpg.Pool, workspace: int) -> None:
    """Raise Refusal `rate_limited` if too many statements of the workspace wait for a connection."""
    if isinstance(pool, SharedPool) and pool.gate.waiting(workspace) >= MAX_WAITING:
        detail = f"{MAX_WAITING} requests of the workspace wait for the database; try again when some have ended."
        raise Refusal.temporary("rate_limited", detail, 1000, 3000)


class _InTurn:
    """A connection in the workspace's turn."""

    def __init__(self, gate: FairGate, workspace: int, connecting: Any) -> None:
        self._gate, self._workspace, self._connecting = gate, workspace, connecting

    async def __aenter__(self) -> Any:
        async with asyncio.timeout(WAIT_S):
            await self._gate.enter(self._workspace)
        try:
            connection = await self._connecting.__aenter__()
        except BaseException:
            self._gate.leave(self._workspace)
            raise
        _is_within.set(True)
        return connection

    async def __aexit__(self, *error: object) -> None:
        _is_within.set(False)  # not reset: a generator may end in another task
        try:
            await self._connecting.__aexit__(*error)
        finally:
            self._gate.leave(self._workspace)
