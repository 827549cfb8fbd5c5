"""Set aside what fails of one workspace, user or row, so that a loop goes on with the others (decision 0095). Tasks of
the worker and comparisons work on each thing within `contain`, `each` or `together`. Queries that find work leave out
what rests: is_set_aside in sql/migrations/0001_partitions.sql. docs/reliability.md has the table of all loops."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar

import asyncpg
import hiredis
import structlog

from service.engine.domain.errors import Refusal
from service.engine.hot import outbox as redis
from service.engine.hot.decider import kind_of
from service.engine.hot.redis_server import Fenced, ScriptFailed, UnfitRedis
from service.engine.record import pool as postgres
from service.engine.record.partitions import failing_tasks
from service.engine.record.partitions.partition_rows import LeaseLost
from service.engine.worker import metrics
from service.engine.worker.task_supervisor import leaves, reason_of
from service.engine.worker.waiting import NotYet

PAUSES_S = 2.0, 3600.0
"""The first pause of a thing, and the longest."""
PROBE_S = 5.0
_NOT_OF_ONE = (Fenced, UnfitRedis, LeaseLost, NotYet, asyncpg.InsufficientResourcesError)
"""Redis or Postgres is another's, unfit or full, or something else must happen first: that concerns all things."""
_SLOW = (TimeoutError, asyncpg.QueryCanceledError)
_OWN_REPLIES = frozenset({"ERR", "WRONGTYPE"})
"""Errors of a script or a key; others are the server's."""

T = TypeVar("T")
log = structlog.get_logger()


class Thing(NamedTuple):
    """The name of a thing, without a code, a user or a secret; and its workspace."""

    name: str
    workspace: int | None = None


class SetAside:
    """What a task of a partition has set aside.

    1. An error of one thing is logged, counted and stored, and the thing rests, for a pause that doubles from two
       seconds to an hour. The loop goes on with the next thing.
    2. What a query finds has rested enough, and is tried again. When it succeeds, its failures are forgotten.
    3. Errors of a server or of the lease, refusals for now, and NotYet are raised: they concern all things.
    """

    def __init__(self, pool: asyncpg.Pool, partition: int, task: str, raised: tuple[type[Exception], ...] = ()) -> None:
        """`raised`: more errors that concern all things."""
        self._pool, self._partition, self._task, self._raised = pool, partition, task, raised
        self._log = log.bind(partition=partition, task=task)
        self._stored: set[str] | None = None
        """Things whose failures are stored."""

    @asynccontextmanager
    async def contain(self, *things: Thing, is_last: bool = True) -> AsyncIterator[None]:
        """Work on one thing, or on several at once. An error of theirs ends the block, and is not raised. After the
        last block for a thing its failures are forgotten."""
        await self.read_stored()
        try:
            yield
        except Exception as error:
            if not await self._is_of_one(error):
                raise
            for thing in things:
                await self.add(thing, error)
        else:
            for thing in things if is_last else ():
                await self.forget(thing)

    async def each(
        self,
        things: Iterable[T],
        name: Callable[[T], Thing],
        work: Callable[[T], Awaitable[object]],
        *,
        is_last: bool = True,
    ) -> list[T]:
        """Work on each thing; return those that succeeded."""
        done: list[T] = []
        for thing in things:
            async with self.contain(name(thing), is_last=is_last):
                await work(thing)
                done.append(thing)
        return done

    async def together(
        self, things: Sequence[T], name: Callable[[T], Thing], work: Callable[[Sequence[T]], Awaitable[object]]
    ) -> list[T]:
        """Work on all things at once; if that fails, on each alone. Return those that succeeded, whose failures the
        caller must `forget`."""
        if len(things) > 1:
            try:
                await work(things)
            except Exception as error:
                if not await self._is_of_one(error):
                    raise
            else:
                return list(things)
        return await self.each(things, name, lambda thing: work([thing]), is_last=False)

    async def forget(self, thing: Thing) -> None:
        """Forget the failures of a thing, as it has succeeded."""
        stored = await self.read_stored()
        if thing.name in stored:
            await failing_tasks.clear_task_failures(self._pool, self._partition, self._task, thing.name)
            stored.discard(thing.name)
            self._log.info("tried_again", thing=thing.name, workspace=thing.workspace)

    async def add(self, thing: Thing, error: Exception) -> None:
        """Set a thing aside, as this error is its own."""
        reason, stored = reason_of(error), await self.read_stored()
        resting = await failing_tasks.set_aside(self._pool, self._partition, self._task, *thing, reason, PAUSES_S)
        stored.add(thing.name)
        metrics.count_set_aside(self._partition, self._task)
        self._log.error(
            "set_aside",
            thing=thing.name,
            workspace=thing.workspace,
            reason=reason,
            failures=resting.failures,
            next_try_s=round(resting.pause_s, 1),
            exc_info=error,
        )

    async def read_stored(self) -> set[str]:
        """The names of all things that are set aside."""
        if self._stored is None:
            self._stored = await failing_tasks.read_set_aside(self._pool, self._partition, self._task)
        return self._stored

    async def read_resting(self) -> set[str]:
        """The names of the things that are left out now, for work that no query finds."""
        return await failing_tasks.read_resting(self._pool, self._partition, self._task)

    async def _is_of_one(self, error: Exception) -> bool:
        """Whether other things may succeed. A statement that took too long is of its thing if Postgres answers
        others."""
        errors = leaves(error)
        if all(isinstance(one, _SLOW) for one in errors) and not isinstance(error, self._raised):
            return await self._answers()
        return not any(isinstance(one, self._raised) or concerns_all(one) for one in errors)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_S):
                await self._pool.fetchval("SELECT 1")
        except postgres.ERRORS:
            return False
        return True


def concerns_all(error: BaseException) -> bool:
    """Whether an error is of a server or of the lease, or passes when something else has happened."""
    if isinstance(error, Refusal):
        return error.outcome.status == 503
    if isinstance(error, hiredis.ReplyError):
        kind = error.kind if isinstance(error, ScriptFailed) else kind_of(error)
        return kind not in _OWN_REPLIES
    return isinstance(error, _NOT_OF_ONE) or redis.is_away(error) or postgres.is_away(error)
