"""Copy a workspace's keys to the target while requests change them: a step of workspace_mover.py (docs/decisions/0055,
0080). The source's keys stay as they are."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from service.common.pace import Pace
from service.hot.key_copies import CALM_AT_ONCE, RUNS_AT_ONCE, SHARE, ChangedKeys, Copies
from service.record.partitions.moves import CannotMove

MOST_CHANGED = 20_000
"""Names of changed keys, some 3 MiB, before which these are copied while others are."""
SHORT_S, SETTLE_S = 0.15, 10.0
"""Copying is settled once a round is that short: so is the last one, while the workspace is closed. On a busy machine
it may never be, so this ends after SETTLE_S."""
LONG_S, LEAST_GAIN, LOST_ROUNDS = 0.3, 0.9, 3
"""A round is lost if it takes longer, and at least this part of its keys' number has changed meanwhile. After so many
in a row requests are paused, until a round is not longer; the next time after one."""
PAUSED_S, OPEN_S = 0.4, 0.6
"""A pause at most, and the least time between two. The latter shrinks: after two pauses it is half as long."""
MOST_PAUSES = 60
"""Some 24 s in all; then the attempt ends."""
CALM = 0.1
"""While fewer keys change than this part of those that are copied, copying leaves two thirds of the time to others."""
PORTION = 1600
"""Keys that are copied before it is asked whether a pause is to begin or to end."""


class KeyCopier:
    """Copies all keys once, and then in rounds those that have changed since the round before.

    If more keys change than are copied, the rounds get longer. Then the workspace is paused again and again, so that
    its requests are slower than the copying.
    """

    def __init__(
        self, old: Copies, new: Copies, changed: ChangedKeys, pause: Callable[[], AbstractAsyncContextManager[None]]
    ) -> None:
        """In `pause` the workspace refuses requests."""
        self.old, self.new, self.changed = old, new, changed
        self._pause = pause
        self.copied = self._unread = 0
        self.round_s = 0.0
        """Duration of the last round."""
        self.pauses = 0
        self._may_pause, self._pausing = True, asyncio.Lock()
        self._lost, self._is_behind, self._opened_at = 0, False, 0.0

    @property
    def left(self) -> int:
        """Roughly how many keys are to be copied."""
        return max(0, self._unread) + self.changed.count

    async def copy_all(self, keys: int) -> None:
        """Copy every key of the source, of which there are about so many. Raises CannotMove."""
        self._unread, pace, is_calm = keys, Pace(SHARE), True
        async for names in self.old.names():
            changed = self.changed.count
            with pace:
                await self.new.copy_from(self.old, names, CALM_AT_ONCE if is_calm else RUNS_AT_ONCE)
            is_calm = self.changed.count - changed < CALM * len(names)
            if is_calm:
                await pace.rest()
            self._unread -= len(names)
            self.copied += len(names)
            if self.changed.count > MOST_CHANGED:
                await self.copy_changed()
        self._unread = 0

    async def settle(self, seconds: float = SETTLE_S) -> None:
        """Copy changed keys until a round is short, but not longer than so many seconds. Raises CannotMove."""
        deadline = time.monotonic() + seconds
        while True:
            await self.copy_changed()
            if self.round_s <= SHORT_S or time.monotonic() > deadline:
                return

    async def copy_changed(self) -> None:
        """One round. Raises CannotMove if pauses don't help."""
        names, began = self.changed.take(), time.monotonic()
        count = len(names)
        while names:
            await (self._copy_paused(names) if self._is_pause_due() else self._copy_portion(names))
        self.round_s = time.monotonic() - began
        is_lost = self.round_s > LONG_S and self.changed.count >= LEAST_GAIN * count
        self._lost = self._lost + 1 if is_lost else 0
        if self._lost >= (1 if self.pauses else LOST_ROUNDS):
            self._is_behind = True
        elif self.round_s <= LONG_S:
            self._is_behind = False

    def allow_pauses(self) -> None:
        self._may_pause = True

    async def forbid_pauses(self) -> None:
        """Prevent further pauses, and wait for the end of a present one."""
        self._may_pause = False
        async with self._pausing:
            pass

    def _is_pause_due(self) -> bool:
        due_at = self._opened_at + OPEN_S / (1 + self.pauses / 2)
        return self._is_behind and self._may_pause and time.monotonic() >= due_at

    async def _copy_paused(self, names: list[str]) -> None:
        """Copy names, and remove them from the list, while no more keys change."""
        if self.pauses >= MOST_PAUSES:
            raise CannotMove(f"its keys change faster than they are copied, also after {self.pauses} pauses")
        self.pauses += 1
        async with self._pausing, self._pause():
            began = at = time.monotonic()
            took_s = 0.0
            while names and at + took_s <= began + PAUSED_S:
                await self._copy_portion(names)
                took_s, at = time.monotonic() - at, time.monotonic()
        self._opened_at = time.monotonic()

    async def _copy_portion(self, names: list[str]) -> None:
        some = names[-PORTION:]
        del names[-PORTION:]
        await self.new.copy_from(self.old, some)
        self.copied += len(some)
