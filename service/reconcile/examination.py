"""Looking closely at what may differ, and calling it a difference only where it does at two cuts."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import asyncpg
import structlog

from service.formats.coupon_state import Class, Difference
from service.formats.event_id import NO_EVENT, EventId
from service.hot.inspection import WRONG, Item, Looker, Seen
from service.reconcile.quarantine_exclusions import Quarantined
from service.record.partitions.openings import erased_after
from service.record.partitions.partition_rows import read_partition

TRIES = 12
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
RECORDED_S, LOOK_S = 60.0, 0.01
AT_ONCE = 3
MAX_TOLD = 1000
"""Differences that are told one by one; all are counted."""

Later = Literal["later"]
LATER: Later = "later"
"""What is on its way can't be judged yet: configuration that Redis hasn't seen, a user who is being deleted."""

log = structlog.get_logger()


class NotRecorded(Exception):
    """The record doesn't come after what Redis decides: nothing can be compared."""


class Kind(Protocol):
    """A kind of things: what is read of one, what the record says of it, and how the two differ."""

    at_once: int
    """Things a look."""

    def items(self, thing: Any) -> Sequence[Item]:
        """What is read."""
        ...

    async def said(self, at: EventId, things: Sequence[Any]) -> Any:
        """What the record says of some after an event."""
        ...

    def judge(self, thing: Any, said: Any, seen: Seen, values: Sequence[Any]) -> Difference | Later | None:
        """How it differs; None where it doesn't."""
        ...


class Examiner:
    """For one workspace. Some hundred things at a time:

    1. One script reads them, with the last event of the outbox.
    2. Once the record has come so far, it says what they should be after that very event; later ones don't count.
    3. What differs is looked at again, at another cut, and is called a difference where it differs in the same way.
       While users are being deleted, what differs waits. What isn't settled after some tries is left for the next time.
    4. Repaired is what a script finds still as it was seen; what has changed meanwhile is looked at again. What an
       event in quarantine names is never repaired: nobody can say whether Redis or the record is right about it.
    """

    def __init__(
        self, looker: Looker, pool: asyncpg.Pool, workspace: int, repair: bool, tell: Callable[[Difference, str], None]
    ) -> None:
        self.looker, self.pool, self.workspace, self.repair = looker, pool, workspace, repair
        self.partition = looker.partition
        self._tell = tell
        self.found, self.left = Counter[Class](), Counter[Class]()
        self.unsettled = 0
        self.at: EventId = NO_EVENT
        """The last cut."""
        self._quarantined = Quarantined(pool, self.partition, workspace)

    async def cut(self) -> Seen:
        """Where Redis is now, once the record is there too. Raises NotRecorded."""
        cut = await self.looker.look([])
        await self.recorded(cut.at)
        return cut

    async def recorded(self, at: EventId) -> None:
        """Wait until the record has come to an event. Raises NotRecorded."""
        deadline = time.monotonic() + RECORDED_S
        while (await read_partition(self.pool, self.partition)).cursor < at:
            if time.monotonic() > deadline:
                raise NotRecorded(f"{at} is not recorded after {RECORDED_S:.0f} s")
            await asyncio.sleep(LOOK_S)
        self.at = max(self.at, at)

    async def examine(self, kind: Kind, things: Sequence[Any]) -> None:
        """Look at things that may differ."""
        suspected: dict[Any, tuple[Class, ...]] = {}
        pause_s, waiting = FIRST_PAUSE_S, list(things)
        for _ in range(TRIES):
            again: list[Any] = []
            parts = [waiting[start : start + kind.at_once] for start in range(0, len(waiting), kind.at_once)]
            for start in range(0, len(parts), AT_ONCE):
                looks = [self._look(kind, part, suspected) for part in parts[start : start + AT_ONCE]]
                again += [thing for some in await asyncio.gather(*looks) for thing in some]
            if not again:
                return
            waiting = again
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        self.unsettled += len(waiting)

    async def _look(self, kind: Kind, things: Sequence[Any], suspected: dict[Any, tuple[Class, ...]]) -> list[Any]:
        """Those that have to be looked at again."""
        items = [kind.items(thing) for thing in things]
        seen = await self.looker.look([item for some in items for item in some])
        await self.recorded(seen.at)
        said = await kind.said(seen.at, things)
        erasing = await erased_after(self.pool, self.partition, seen.at)
        again: list[Any] = []
        place = 0
        for thing, some in zip(things, items, strict=True):
            values = seen.values[place : place + len(some)]
            place += len(some)
            if WRONG in values:
                continue  # service/reconcile/wrong_types.py calls it a difference
            found = kind.judge(thing, said, seen, values)
            if found is None:
                continue
            if found == LATER or erasing or suspected.get(thing) != found.classes:
                if found != LATER and not erasing:
                    suspected[thing] = found.classes
                again.append(thing)
            elif not await self._settle(found):
                again.append(thing)
        return again

    async def _settle(self, found: Difference) -> bool:
        """Call it a difference, and mend it; False where it has changed meanwhile."""
        state = "found"
        await self._quarantined.read_on()
        if self._quarantined.names(found.about):
            found = found._replace(unsafe="an event of it is in quarantine")
        if self.repair and not found.unsafe:
            if not await self.looker.repair(found.writes):
                return False
            state = "mended"
        self.call(found, state)
        return True

    def call(self, found: Difference, state: str) -> None:
        """Count a difference, and tell the first of them."""
        self.found.update(found.classes)
        if state != "mended":
            self.left.update(found.classes)
        if self.found.total() <= MAX_TOLD:
            self._tell(found, state)
