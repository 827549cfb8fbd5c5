"""Tasks of a worker that may fail: each is begun anew by itself, and shows itself failing."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

import asyncpg
import hiredis
import structlog

from service.hot.redis_server import ScriptFailed
from service.record import pool as postgres
from service.record.partitions.failing_tasks import forget_failing, note_failing
from service.worker import metrics

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
WELL_S = 60.0
"""A task that has run for so long is well again."""
NOTE_S = 5.0

log = structlog.get_logger()


class Backoff:
    """Pauses that double up to the longest, each cut by a random part, so that not all come at once."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._pause_s = first_s

    def next_s(self) -> float:
        """The next pause."""
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, self._longest_s)
        return pause_s * random.uniform(0.5, 1)  # noqa: S311, no secret

    def reset(self) -> None:
        """Begin with the first again."""
        self._pause_s = self._first_s


def reason_of(error: BaseException) -> str:
    """What went wrong, in stable words: without what a server quotes, which may be a code or a user."""
    if isinstance(error, asyncpg.PostgresError):
        return " ".join(filter(None, [type(error).__name__, getattr(error, "constraint_name", None)]))
    if isinstance(error, ScriptFailed):
        return f"ScriptFailed {error}"
    if isinstance(error, hiredis.ReplyError):
        kind = str(error).partition(" ")[0]
        return f"ReplyError {kind}" if kind.isupper() else "ReplyError"
    return type(error).__name__


def leaves(error: BaseException) -> list[BaseException]:
    """The errors of a group, of however many levels; or the error."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for one in error.exceptions for leaf in leaves(one)]


class Troubles:
    """Where a partition's failing tasks are shown: the log, a metric, and a row in Postgres (`scrip doctor`)."""

    def __init__(self, pool: asyncpg.Pool, partition: int) -> None:
        self._pool, self._partition = pool, partition
        self._log = log.bind(partition=partition)

    async def note(self, task: str, error: BaseException, pause_s: float) -> None:
        """A task has failed, and is begun anew after a pause."""
        reason = reason_of(error)
        self._log.error("task_failed", task=task, reason=reason, next_try_s=round(pause_s, 2), exc_info=error)
        metrics.task_failed(self._partition, task)
        with contextlib.suppress(*postgres.ERRORS):
            async with asyncio.timeout(NOTE_S):
                await note_failing(self._pool, self._partition, task, reason)

    async def forget(self, task: str) -> None:
        """A task is well."""
        metrics.task_well(self._partition, task)
        with contextlib.suppress(*postgres.ERRORS):
            async with asyncio.timeout(NOTE_S):
                await forget_failing(self._pool, self._partition, task)


class Supervisor:
    """Keeps background tasks going. Each by itself:

    1. Begin the task. Where it raises what ends all of them (`fatal`), so does this.
    2. Whatever else it raises is logged, counted and kept in Postgres, and the task is begun anew after a pause that
       doubles from 0.5 s to 60 s.
    3. Once it has run for a minute, it is well: what was kept is forgotten, and the pauses begin with the shortest.
    """

    def __init__(self, troubles: Troubles, fatal: tuple[type[Exception], ...] = ()) -> None:
        self._troubles, self._fatal = troubles, fatal

    async def run(self, task: str, begin: Callable[[], Awaitable[None]]) -> None:
        """Keep a task going until cancelled."""
        backoff = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        while True:
            try:
                await self._run_once(task, begin, backoff)
            except Exception as error:
                if (fatal := next((one for one in leaves(error) if isinstance(one, self._fatal)), None)) is not None:
                    raise fatal from error
                pause_s = backoff.next_s()
                await self._troubles.note(task, error, pause_s)
                await asyncio.sleep(pause_s)

    async def _run_once(self, task: str, begin: Callable[[], Awaitable[None]], backoff: Backoff) -> None:
        running = asyncio.ensure_future(begin())
        try:
            done, _ = await asyncio.wait({running}, timeout=WELL_S)
            if not done:
                backoff.reset()
                await self._troubles.forget(task)
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        raise RuntimeError("a task that never ends has ended")
