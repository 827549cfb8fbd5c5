"""The server's tasks of an open partition: jobs, webhooks, comparisons, retention. service/serving/worker.py hands them
to the engine. Names of tasks are in metrics, alarms and the query `renew_leases`."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from service.common.config import Settings
from service.engine.worker.partition_worker import OpenPartition, Tasks
from service.server.tasks.budget_counter import BudgetCounter
from service.server.tasks.code_changer import changer_of
from service.server.tasks.code_generator import Generator
from service.server.tasks.comparison_runner import ComparisonRunner
from service.server.tasks.quarantine_settler import QuarantineSettler
from service.server.tasks.restocker import Restocker, watch_stock
from service.server.tasks.retention import Retention
from service.server.tasks.storage_watch import StorageWatch
from service.server.tasks.user_eraser import Eraser, make_erasing_gate
from service.server.webhooks.sender import Sender

if TYPE_CHECKING:
    from service.server.webhooks.public_http import Poster


def partition_tasks(settings: Settings, opened: OpenPartition, make_poster: Callable[[], "Poster"]) -> Tasks:
    """The tasks by name, for a partition that a worker process has opened."""
    pool, server, scripts, fence, lease, projector = opened
    partition, days = server.partition, (settings.retire_days, settings.fact_days)
    erasing, comparing = make_erasing_gate(), asyncio.Lock()
    return {
        "generating": lambda: Generator(pool, projector, partition, fence).run(lease),
        "changing": lambda: changer_of(pool, server, scripts, fence).run(lease),
        "erasing": lambda: Eraser(pool, server, scripts, erasing).run(lease),
        "reconciling": lambda: ComparisonRunner(pool, partition, fence, settings.reconcile_at, comparing).run(lease),
        "counting": lambda: BudgetCounter(pool, server, scripts, projector).run(lease),
        "watching_stock": lambda: watch_stock(pool, server, scripts),
        "restocking": lambda: Restocker(pool, server, scripts, projector, partition).run(lease),
        "retaining": lambda: Retention(pool, server, scripts, fence, erasing, comparing, *days).run(lease),
        "settling": lambda: QuarantineSettler(pool, partition, fence).run(lease),
        "measuring": lambda: StorageWatch(pool, server, scripts).run(lease),
        "sending": lambda: Sender(pool, partition, fence, make_poster).run(lease),
    }
