"""Which comparison is next: of several workspaces, and beside the nightly one."""

from typing import Any

import asyncpg

from service.server.in_postgres.comparisons import ComparisonWork
from service.server.in_postgres.job_rows import create_reconciling
from service.server.in_postgres.workspace_rows import create_workspace
from service.server.reconcile.comparison_job import run_job
from service.server.tasks.comparison_runner import choose_work
from tests.integration.recording.record_fixtures import FENCE


async def test_a_workspace_that_orders_again_and_again(pool: asyncpg.Pool) -> None:
    """Workspaces with comparisons to run take turns, also if one of them orders the next as soon as one has ended, and
    its jobs are smaller."""
    async with pool.acquire() as connection:
        greedy, *others = [(await create_workspace(connection, name)).workspace for name in ("a", "b", "c")]
        for workspace in (greedy, *others):
            await create_reconciling(connection, workspace, False)
    await pool.execute("UPDATE jobs SET requested = 1000000 WHERE workspace <> $1", greedy)
    order = list[int]()

    async def compare(workspace: int, **_: Any) -> None:
        order.append(workspace)

    for _ in range(6):
        assert await run_job(pool, 0, FENCE, compare) == 0  # type: ignore[arg-type]
        if order[-1] == greedy or len(order) == 3:
            async with pool.acquire() as connection:
                for workspace in (greedy,) if order[-1] == greedy else others:
                    await create_reconciling(connection, workspace, False)
    assert [*map(sorted, (order[:3], order[3:]))] == [[greedy, *others]] * 2
    assert order[0] == order[3] == greedy


def test_jobs_do_not_keep_the_nightly_comparison_waiting() -> None:
    """Jobs, the scheduled comparison and repeats take turns where all are due; what is not due is left out."""
    chosen, all_due = [""], ComparisonWork(job=True, turn=True, retry=True)
    for _ in range(6):
        chosen.append(choose_work(all_due, chosen[-1]) or "")
    assert chosen[1:] == ["job", "turn", "retry"] * 2
    assert choose_work(ComparisonWork(job=True, turn=False, retry=False), "job") == "job"
    assert choose_work(ComparisonWork(job=False, turn=False, retry=False), "job") is None
