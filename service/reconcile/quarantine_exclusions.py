"""What events in quarantine name: nobody can say what of it is right."""

from collections.abc import Sequence

import asyncpg

from service.formats.coupon_state import About
from service.formats.event_id import START
from service.formats.quarantined_event import read_names
from service.record.facts.quarantine import page_live

MAX_NAMED = 100_000
"""More are not kept: then everything of the workspace is taken for named."""


class Quarantined:
    """One workspace's codes, users, orders and books that are named by events in quarantine."""

    def __init__(self, pool: asyncpg.Pool, partition: int, workspace: int) -> None:
        self._pool, self._partition, self._workspace = pool, partition, workspace
        self._named: set[About] = set()
        self._after = START

    async def read_on(self) -> None:
        """Read what has come since the last time. What was recorded up to an event is seen with that event's cursor."""
        async for page in page_live(self._pool, self._partition, self._after):
            for at, d in page:
                self._after = at
                if len(self._named) < MAX_NAMED:
                    self._add(d)

    def names(self, about: Sequence[About]) -> bool:
        """Whether any of these is named."""
        return len(self._named) >= MAX_NAMED or any(one in self._named for one in about)

    def _add(self, d: bytes) -> None:
        for one in read_names(d):
            if one.workspace == self._workspace:
                told = About("code", one.code), About("user", one.user), About("order", one.order)
                self._named |= {About("book", str(one.book)), *(about for about in told if about.name not in ("", "-"))}
