"""Codes that neither Redis nor a retired book has, and a bound on asking Postgres for them, for recall.py."""

import contextlib
import time
from asyncio import Semaphore
from collections.abc import AsyncIterator

from service.domain.errors import Refusal

LOOKUPS_AT_ONCE = 4
"""Of an API process; it has two to ten connections to Postgres."""
MAX_WAITING = 256
KNOWN_S = 5.0
"""So long nobody asks Postgres again. No retired book gets the code meanwhile: codes are added only to books in Redis,
which retire days after their end."""
MAX_KNOWN = 10_000


class MissingCodes:
    """Look-ups of codes that a script missed in Redis."""

    def __init__(self) -> None:
        self._unknown: dict[tuple[int, str], float] = {}
        self._slots, self._waiting = Semaphore(LOOKUPS_AT_ONCE), 0

    def is_unknown(self, workspace: int, code: str) -> bool:
        """Whether Postgres did not have the code within the last seconds, either."""
        return self._unknown.get((workspace, code), 0.0) > time.monotonic()

    def note_unknown(self, workspace: int, code: str) -> None:
        if len(self._unknown) >= MAX_KNOWN:
            self._unknown.clear()
        self._unknown[workspace, code] = time.monotonic() + KNOWN_S

    @contextlib.asynccontextmanager
    async def take_slot(self) -> AsyncIterator[None]:
        """Wait for one of the slots; leaving the context frees it. Raises Refusal `unavailable` if too many wait."""
        if self._waiting >= MAX_WAITING:
            raise Refusal.temporary("unavailable")
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()
