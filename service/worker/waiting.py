"""Waiting for events of a worker's process."""

import asyncio
import contextlib


async def pause(seconds: float, *ends: asyncio.Event) -> None:
    """Wait so long, or for the first of these."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wait_for_any(*ends)


async def wait_for_any(*events: asyncio.Event) -> None:
    """Wait for the first of these."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
