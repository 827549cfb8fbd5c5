"""A worker's process: opens the partitions whose leases it gets, and records their events in Postgres. A composition
root (service/serving/worker.py) adds tasks by Work, and calls `work`."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import NamedTuple

import asyncpg
import structlog

from service.common.build_info import export_build_info
from service.common.tracebacks import find_reason
from service.engine.formats import key_names
from service.engine.hot.discovery import check_access
from service.engine.hot.unrecorded import backlog_metrics
from service.engine.record import pool as postgres
from service.engine.record.login_roles import check_role
from service.engine.record.partitions.partition_rows import check_partitions
from service.engine.record.partitions.standby_rows import check_visible
from service.engine.record.processes import name_process, name_session
from service.engine.record.program_versions import WrongNumber
from service.engine.worker import metrics
from service.engine.worker.engine_settings import EngineSettings
from service.engine.worker.housekeeping import Prune, clean_up, refresh_statistics
from service.engine.worker.lease_keeper import LeaseKeeper
from service.engine.worker.partition_worker import CONNECTIONS, PartitionWorker, Parts, Shared, Tasks
from service.engine.worker.script_versions import LoadedScripts
from service.engine.worker.server_metrics import server_metrics
from service.engine.worker.server_watch import RETRY_S
from service.engine.worker.task_supervisor import Supervisor, TaskFailures
from service.engine.worker.waiting import pause

POLL_S = 0.5

log = structlog.get_logger()


class RedisNotReached(OSError):
    """This worker has released leases, because it does not reach their Redis."""


CheckReadiness = Callable[[], Awaitable[tuple[bool, bytes]]]
"""Whether the process is ready, and the JSON that says why."""


class Work(NamedTuple):
    """What a composition root adds to the engine."""

    make_parts: Callable[[], Parts] = Parts
    tasks_of: Callable[[asyncpg.Pool, Shared], Tasks] = lambda _pool, _shared: {}
    prunes: Sequence[Prune] = ()
    serve: Callable[[CheckReadiness], AbstractAsyncContextManager[None]] = lambda _: nullcontext()
    """Entered while the process works: to serve health and metrics (service/common/metrics_port.py)."""


async def work(settings: EngineSettings, more: Work) -> None:
    """Work on all partitions until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    connecting = asyncio.create_task(
        postgres.connect_with_retries(settings.database_url, name="scrip-worker", min_size=2, max_size=CONNECTIONS)
    )
    await asyncio.wait({connecting, asyncio.create_task(stopping.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if not connecting.done():
        connecting.cancel()
        return
    holder = name_process(has_session=not postgres.is_pooled(settings.database_url))
    async with (
        await connecting as pool,
        # A connection of its own: nothing that the worker does delays the renewal of its leases.
        await postgres.connect_with_retries(settings.database_url, name=name_session(holder), max_size=1) as renewing,
    ):
        partitions = await check_partitions(pool)
        await check_role(pool, "worker")
        if settings.standbys:
            await check_visible(pool)
        loaded = LoadedScripts(pool)
        await loaded.refresh()
        export_build_info("worker")
        await check_access(settings.redis_url, "EXISTS", key_names.gate(0))  # the API's user may not
        log.info("worker_started", holder=holder)
        keeper = LeaseKeeper(renewing, holder, partitions)
        shared = Shared(settings, pool, keeper, loaded, more.make_parts)
        server_metrics.redis, backlog_metrics.read = shared.redis, shared.take_known_backlog

        tasks: Tasks = {
            "housekeeping": lambda: clean_up(pool, more.prunes),
            "statistics": lambda: refresh_statistics(pool),
            "beating": loaded.run,
            "leases": keeper.run,
            "measuring": lambda: server_metrics.follow_servers(pool, settings.standbys, holder, CONNECTIONS + 1),
            **more.tasks_of(pool, shared),
        }
        supervisor = Supervisor(TaskFailures(pool, 0), fatal=(WrongNumber,))
        async with (
            more.serve(keeper.check_readiness),
            asyncio.TaskGroup() as group,
        ):
            running = [asyncio.create_task(supervisor.run(task, begin)) for task, begin in tasks.items()]
            for each in running:
                each.add_done_callback(lambda _: stopping.set())
            for partition in range(partitions):
                group.create_task(PartitionWorker(shared, partition).run(stopping))
            group.create_task(_publish_unreached(shared, stopping))
        shared.redis.close()
        wrong = await _end(running)
        await keeper.end()
        if wrong:
            raise wrong


async def _publish_unreached(shared: Shared, stopping: asyncio.Event) -> None:
    """Log once that leases are released because their Redis is not reached; store and show it until it is."""
    failures = TaskFailures(shared.pool, 0)
    was_released: bool | None = None  # a process that was killed may have stored it
    while not stopping.is_set():
        released = shared.keeper.list_released()
        if released and not was_released:
            reason = find_reason(shared.redis.last_error or TimeoutError())
            error = RedisNotReached(f"partitions {', '.join(map(str, released))}: {reason}")
            await failures.store("reaching", error, RETRY_S)
        elif was_released is not False and not released:
            await failures.clear("reaching")
        was_released = bool(released)
        metrics.show_task_failing(0, "reaching", is_failing=was_released)  # a handover of partition 0 removes it
        await pause(POLL_S, stopping)
    if was_released:
        await failures.clear("reaching")


async def _end(tasks: Sequence[asyncio.Task[None]]) -> WrongNumber | None:
    """End background tasks; return the error if one had ended by it."""
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    return next((end for end in ends if isinstance(end, WrongNumber)), None)
