"""Waiting on a test's own loop for another process or task."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any


async def until(reached: Callable[[], Any], seconds: float = 60) -> Any:
    """Return what `reached` returns, awaited if it is awaitable, once that is true."""
    async with asyncio.timeout(seconds):
        while True:
            result = reached()
            if inspect.isawaitable(result):
                result = await result
            if result:
                return result
            await asyncio.sleep(0.01)
