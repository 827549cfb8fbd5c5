"""Run one piece of work while the next is prepared, for codes.py, code_generator.py and code_changer.py."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Self


class SerialRunner:
    """Runs pieces of work in the background, in order; at most one runs at a time.

    `put`, or the end of the `async with` block, raises the error of the piece before; `put` then does not start its
    own. If the block fails, the running piece is finished first; if the block is cancelled, the piece is cancelled.
    """

    def __init__(self) -> None:
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self._finish()
        elif task := self._running:
            if issubclass(kind, asyncio.CancelledError):
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def put(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for the piece before, then start this one. Raises the error of the piece before."""
        await self._finish()
        self._running = asyncio.create_task(work())

    async def _finish(self) -> None:
        task, self._running = self._running, None
        if task:
            await task
