"""The worker process: opens the partitions whose leases it gets, and records their events in Postgres. `scrip worker`
(process_commands.py) calls `run`."""

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Sequence

import structlog

from service.common.build_info import export_build_info
from service.common.config import Settings
from service.common.metrics_port import serve_metrics
from service.common.running_service import find_servers
from service.common.tracing import start_traces
from service.engine.formats import key_names
from service.engine.hot.discovery import check_access
from service.engine.record import pool as postgres
from service.engine.record.login_roles import check_role
from service.engine.record.partitions.partition_rows import check_partitions
from service.engine.record.partitions.standby_rows import check_visible
from service.engine.record.processes import name_process, name_session
from service.engine.record.program_versions import WrongNumber
from service.engine.worker.lease_keeper import LeaseKeeper
from service.engine.worker.partition_worker import CONNECTIONS, PartitionWorker, Shared
from service.engine.worker.script_versions import LoadedScripts
from service.engine.worker.server_metrics import server_metrics
from service.engine.worker.task_supervisor import Supervisor, TaskFailures
from service.server.record.samples import Sampler, add_backlog
from service.server.tasks.housekeeping import clean_up, follow_names, refresh_statistics

log = structlog.get_logger()


async def work(settings: Settings) -> None:
    """Work on all partitions until SIGTERM or SIGINT."""
    redis_url, database_url = find_servers(settings)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    connecting = asyncio.create_task(
        postgres.connect_when_there(database_url, name="scrip-worker", min_size=2, max_size=CONNECTIONS)
    )
    await asyncio.wait({connecting, asyncio.create_task(stopping.wait())}, return_when=asyncio.FIRST_COMPLETED)
    if not connecting.done():
        connecting.cancel()
        return
    holder = name_process(has_session=not postgres.is_pooled(database_url))
    async with (
        await connecting as pool,
        # A connection of its own: nothing that the worker does delays the renewal of its leases.
        await postgres.connect_when_there(database_url, name=name_session(holder), max_size=1) as renewing,
    ):
        partitions = await check_partitions(pool)
        await check_role(pool, "worker")
        if settings.standbys:
            await check_visible(pool)
        loaded = LoadedScripts(pool)
        await loaded.refresh()
        export_build_info("worker")
        await check_access(redis_url, "EXISTS", key_names.gate(0))  # the API's user may not
        log.info("worker_started", holder=holder)
        keeper = LeaseKeeper(renewing, holder, partitions)
        shared = Shared(settings, pool, keeper, loaded)
        shared.traces = start_traces("scrip-worker")
        server_metrics.redis = shared.redis

        async def keep_leases() -> None:
            """Before it has reached Redis, a worker would only keep leases from others."""
            await shared.redis.until_one_is_reached(partitions)
            await keeper.run()

        tasks: dict[str, Callable[[], Awaitable[None]]] = {
            "housekeeping": lambda: clean_up(pool),
            "statistics": lambda: refresh_statistics(pool),
            "names": lambda: follow_names(pool),
            "beating": loaded.run,
            "leases": keep_leases,
            "measuring": lambda: server_metrics.follow_postgres(pool, settings.standbys),
            "sampling": Sampler(pool, shared.take_backlog, add_backlog).run,
        }
        supervisor = Supervisor(TaskFailures(pool, 0), fatal=(WrongNumber,))
        async with (
            serve_metrics(settings.host, settings.metrics_port, keeper.check_readiness),
            asyncio.TaskGroup() as group,
        ):
            running = [asyncio.create_task(supervisor.run(task, begin)) for task, begin in tasks.items()]
            for each in running:
                each.add_done_callback(lambda _: stopping.set())
            for partition in range(partitions):
                group.create_task(PartitionWorker(shared, partition).run(stopping))
        shared.redis.close()
        wrong = await _end(running)
        await keeper.end()
        if shared.traces:
            shared.traces.end()
        if wrong:
            raise wrong


async def _end(tasks: Sequence[asyncio.Task[None]]) -> WrongNumber | None:
    """End background tasks; return the error if one had ended by it."""
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    return next((end for end in ends if isinstance(end, WrongNumber)), None)


def run(settings: Settings) -> None:
    import uvloop

    from service.common import logs

    logs.configure(settings, "worker")
    # A batch of the outbox is some ten thousand live lists. Collecting cycles after every 700 cost 1.2 µs an event.
    gc.freeze()
    gc.set_threshold(100_000)
    gc.enable()
    uvloop.run(work(settings))
