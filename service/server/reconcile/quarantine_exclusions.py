"""What quarantined events name: Redis or the record may be wrong of it. examination.py asks before a repair."""

from collections.abc import Sequence

import asyncpg

from service.engine.formats.coupon_state import About
from service.engine.formats.event_id import START
from service.engine.formats.quarantined_event import read_names
from service.engine.record.facts.quarantined_events import page_quarantine

MAX_NAMED = 100_000
"""Beyond this, everything of the workspace counts as named."""


class QuarantineExclusions:
    """One workspace's codes, users, orders and books that quarantined events name."""

    def __init__(self, pool: asyncpg.Pool, partition: int, workspace: int) -> None:
        self._pool, self._partition, self._workspace = pool, partition, workspace
        self._named: set[About] = set()
        self._after = START

    async def read_on(self) -> None:
        """Read the events since the last call."""
        async for page in page_quarantine(self._pool, self._partition, self._after):
            for at, d in page:
                self._after = at
                if len(self._named) < MAX_NAMED:
                    self._add(d)

    def names(self, about: Sequence[About]) -> bool:
        """Whether an event that was read names any of these."""
        return len(self._named) >= MAX_NAMED or any(one in self._named for one in about)

    def _add(self, d: bytes) -> None:
        for names in read_names(d):
            if names.workspace == self._workspace:
                about = About("code", names.code), About("user", names.user), About("order", names.order)
                self._named |= {About("book", str(names.book)), *(one for one in about if one.name not in ("", "-"))}
