"""Waiting for events of a worker's process, and for states of the stores. Tasks of partition_worker.py call this."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import asyncpg

from service.engine.formats.event_id import EventId
from service.engine.record.partitions.partition_rows import read_partition


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


async def run_until(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Run the work to its end, but not beyond the event. Raises its error."""
    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            await working
    finally:
        for task in (working, waiting):
            task.cancel()


async def wait_for_any(*events: asyncio.Event) -> None:
    """Wait for the first of these."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def wait_until(
    is_reached: Callable[[], Awaitable[bool]], at_most_s: float, error: Exception, poll_s: float = 0.02
) -> None:
    """Wait for a state. Raises the error after so long."""
    deadline = time.monotonic() + at_most_s
    while not await is_reached():
        if time.monotonic() > deadline:
            raise error
        await asyncio.sleep(poll_s)


async def has_recorded(pool: asyncpg.Pool, partition: int, event: EventId) -> bool:
    """Whether the partition's record has reached this event."""
    return (await read_partition(pool, partition)).cursor >= event


class NotYet(Exception):
    """Something else must happen first. Try again later."""
