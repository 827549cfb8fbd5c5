"""Waiting for events of a worker's process: partition_worker.py, write_behind.py and opening_turns.py call this."""

import asyncio
import contextlib


def is_cancelled() -> bool:
    """Whether this task is being cancelled, though nothing raised CancelledError: before Python 3.12, a library's
    `asyncio.wait_for` may swallow it, and so does a TaskGroup of which a task has failed."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


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
