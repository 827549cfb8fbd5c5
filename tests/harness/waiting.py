"""Waiting: for a state, for the ends of tasks, and for a time only where no state can be waited for."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

PATIENCE_S = 120.0
"""When a wait is given up: many times the usual, since the machine may be busy."""
_MIN_PAUSE_S, _MAX_PAUSE_S = 0.02, 0.25

Away = tuple[type[Exception], ...]
"""Errors that mean: not yet."""


def until(reached: Callable[[], Any], what: str = "a state", patience_s: float = PATIENCE_S, *, away: Away = ()) -> Any:
    """Wait until `reached` returns something true; return it."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(*away):
            if result := reached():
                return result
        waited_s = time.monotonic() - began
        assert waited_s < patience_s, f"waited {patience_s:.0f} s for {what}"
        time.sleep(find_pause(waited_s))


def find_pause(waited_s: float) -> float:
    """The seconds until one looks again: a tenth of what was waited, since a look may take much of a busy machine."""
    return min(max(waited_s / 10, _MIN_PAUSE_S), _MAX_PAUSE_S)


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
