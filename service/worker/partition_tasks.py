"""The tasks of a worker process, one for each partition; also for those that are created while it runs."""

import asyncio

from service.worker.partition_worker import PartitionWorker, Shared
from service.worker.waiting import wait_for_any


async def work_on_partitions(shared: Shared, stopping: asyncio.Event) -> None:
    """Work on all partitions until `stopping` is set. The task of a removed one waits: it may be created again."""
    keeper, working = shared.keeper, set[int]()
    async with asyncio.TaskGroup() as group:
        while not stopping.is_set():
            for partition in keeper.partitions:
                if partition not in working:
                    working.add(partition)
                    group.create_task(PartitionWorker(shared, partition).run(stopping))
            keeper.has_read.clear()
            await wait_for_any(stopping, keeper.has_read)
