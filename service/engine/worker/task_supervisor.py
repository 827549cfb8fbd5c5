"""Restart the worker's background tasks that fail, and publish their failures. process.py and partition_worker.py run
tasks under it; partition_worker.py and projector.py use its helpers, too. Reasons are stored and
logged: they must not quote a code."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

import asyncpg
import hiredis
import structlog

from service.common.tracebacks import describe_reply
from service.engine.hot.redis_server import ScriptFailed
from service.engine.record import pool as postgres
from service.engine.record.partitions.failing_tasks import clear_task_failures, store_task_failure
from service.engine.worker import metrics

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
HEALTHY_AFTER_S = 60.0
"""A task that has run for so long is healthy."""
STORE_TIMEOUT_S = 5.0

log = structlog.get_logger()


class Backoff:
    """Pauses that double up to a maximum, each shortened at random to spread retries."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._pause_s = first_s

    def next_s(self) -> float:
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, self._longest_s)
        return pause_s * random.uniform(0.5, 1)  # noqa: S311, no secret

    def reset(self) -> None:
        self._pause_s = self._first_s


def reason_of(error: BaseException) -> str:
    """The kind of the error, or of a group's first one, without text that a server quotes: it may contain a code or a
    user."""
    error = leaves(error)[0]
    if isinstance(error, ScriptFailed):
        return f"ScriptFailed {error}"
    if isinstance(error, hiredis.ReplyError):
        return f"ReplyError {describe_reply(error)}".rstrip()
    return postgres.error_name(error)


def leaves(error: BaseException) -> list[BaseException]:
    """The errors of a group of any depth; or the error itself."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for one in error.exceptions for leaf in leaves(one)]


class TaskFailures:
    """Publishes a partition's failing tasks: in the log, a metric and Postgres (`scrip doctor`)."""

    def __init__(self, pool: asyncpg.Pool, partition: int) -> None:
        self._pool, self._partition = pool, partition
        self._log = log.bind(partition=partition)

    async def store(self, task: str, error: BaseException, pause_s: float) -> None:
        """Publish a failure. The task restarts after the pause."""
        reason = reason_of(error)
        self._log.error("task_failed", task=task, reason=reason, next_try_s=round(pause_s, 2), exc_info=error)
        metrics.count_task_failure(self._partition, task)
        with contextlib.suppress(*postgres.ERRORS):
            async with asyncio.timeout(STORE_TIMEOUT_S):
                await store_task_failure(self._pool, self._partition, task, reason)

    async def clear(self, task: str) -> None:
        metrics.show_task_failing(self._partition, task, is_failing=False)
        with contextlib.suppress(*postgres.ERRORS):
            async with asyncio.timeout(STORE_TIMEOUT_S):
                await clear_task_failures(self._pool, self._partition, task)


class Supervisor:
    """Restarts background tasks. For each task:

    1. Start it. If it raises a `fatal` error, raise that too.
    2. Log, count and store any other error, and restart the task after a pause that doubles from 0.5 s to 60 s.
    3. After a minute without an error, clear the stored failures and reset the pause.
    """

    def __init__(self, failures: TaskFailures, fatal: tuple[type[Exception], ...]) -> None:
        self._failures, self._fatal = failures, fatal

    async def run(self, task: str, begin: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        while True:
            try:
                await self._run_once(task, begin, backoff)
            except Exception as error:
                if (fatal := next((one for one in leaves(error) if isinstance(one, self._fatal)), None)) is not None:
                    raise fatal from error
                pause_s = backoff.next_s()
                await self._failures.store(task, error, pause_s)
                await asyncio.sleep(pause_s)

    async def _run_once(self, task: str, begin: Callable[[], Awaitable[None]], backoff: Backoff) -> None:
        running = asyncio.ensure_future(begin())
        try:
            done, _ = await asyncio.wait({running}, timeout=HEALTHY_AFTER_S)
            if not done:
                backoff.reset()
                await self._failures.clear(task)
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        raise RuntimeError("a background task ended")
