"""Work in two places at once: one piece is done while the next is prepared."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Self


class Behind:
    """Pieces of work, each begun once the one before is done: at most one is under way.

    A piece that fails is heard of where the next is put, which then isn't begun, or at the block's end. Where the block
    itself fails, what is under way is finished first; where it is cancelled, so is that.
    """

    def __init__(self) -> None:
        self._under_way: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self._done()
        elif task := self._under_way:
            if issubclass(kind, asyncio.CancelledError):
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def put(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin with a piece. Raises what the one before raised."""
        await self._done()
        self._under_way = asyncio.create_task(work())

    async def _done(self) -> None:
        task, self._under_way = self._under_way, None
        if task:
            await task
