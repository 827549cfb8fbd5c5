"""Waiting: for a state, for the ends of tasks, and for a time only where no state can be waited for."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from tests.harness.waiting import PATIENCE_S, Away, find_pause, until

__all__ = ["PATIENCE_S", "cancel", "elapse", "running", "until", "wait_until"]


async def wait_until(
    reached: Callable[[], Any], what: str = "a state", patience_s: float = PATIENCE_S, *, away: Away = ()
) -> Any:
    """As until, on the test's own loop; what `reached` returns is awaited if it is awaitable."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(patience_s):
            while True:
                with contextlib.suppress(*away):
                    result = reached()
                    if inspect.isawaitable(result):
                        result = await result
                    if result:
                        return result
                await asyncio.sleep(find_pause(time.monotonic() - began))
    except TimeoutError as error:
        raise AssertionError(f"waited {patience_s:.0f} s for {what}") from error


async def cancel(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have ended. Raises the error of a task that had failed before."""
    for task in tasks:
        task.cancel()
    for end in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(end, Exception):
            raise end


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    """Run a coroutine beside the block, and cancel it at the end. Raises its error if it had failed before."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await cancel(task)


async def elapse(seconds: float, reason: str) -> None:
    """Let time pass: for tests that show that nothing happens, for the pace of a load, for a server that is slow. On a
    busy machine more time passes: that may make such a test weaker, but never red."""
    await asyncio.sleep(seconds)
