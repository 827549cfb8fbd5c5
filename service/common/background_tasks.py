"""Background tasks that must not end: wiring.py, link.py, cluster_links.py and committee_poll.py start theirs by
`run_forever`. Without it a task would end silently at an error that it does not expect, and the process go on with what
it knew then. The worker has a supervisor of its own (task_supervisor.py), which also stores failures."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

RESTART_S = 1.0

log = structlog.get_logger()


async def run_forever(task: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run a task. Log an error that it does not expect, without its text, and start it again after a pause."""
    while True:
        try:
            await run()
        except Exception as error:
            log.error("task_failed", task=task, reason=type(error).__name__, next_try_s=RESTART_S, exc_info=error)
        await asyncio.sleep(RESTART_S)
