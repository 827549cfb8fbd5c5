"""A service of a load's own, for as long as it takes, and what it spends."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.harness.running import Run
from tests.harness.servers import free_port

ROOT = Path(__file__).parents[1]
PARTS = ("api", "redis", "worker", "postgres")
"""Of a service: their names in run.json."""


@contextmanager
def own_service(tree: Path = ROOT, partitions: int = 0) -> Iterator[Run]:
    """A `scrip run` of this tree or another on data of its own, ready; gone afterwards."""
    fresh = tempfile.TemporaryDirectory(prefix="scrip-load-", ignore_cleanup_errors=True)
    with fresh as folder, running(Path(folder) / "data", tree, partitions) as run:
        yield run


@contextmanager
def running(data_dir: Path, tree: Path = ROOT, partitions: int = 0) -> Iterator[Run]:
    """A `scrip run` on a data folder, ready until the block ends, with so many partitions or SCRIP_TEST_PARTITIONS."""
    run = Run(data_dir, free_port(), tree, partitions=partitions or int(os.environ.get("SCRIP_TEST_PARTITIONS") or 1))
    try:
        run.until_ready()
        yield run
    finally:
        if run.process.poll() is None:
            run.end(signal.SIGTERM)


async def scrip(run: Run, *words: str) -> int:
    """Run a command on a run's servers, with its output on stderr; its exit code. It is killed if this is cancelled."""
    env = os.environ | {"DATABASE_URL": run.facts["databaseUrl"], "REDIS_URL": run.facts["redisUrl"]}
    command = (sys.executable, "-m", "service", *words)
    process = await asyncio.create_subprocess_exec(*command, cwd=run.tree, env=env, stdout=sys.stderr)
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


class Meter:
    """CPU seconds of each of a service's parts since this was made, with their children."""

    def __init__(self, run: Run) -> None:
        self._run, self._before = run, cpu_s(run)

    def spent_s(self) -> dict[str, float]:
        return {part: now - self._before[part] for part, now in cpu_s(self._run).items()}


def cpu_s(run: Run) -> dict[str, float]:
    """CPU seconds of each of a service's parts since they were started, with their children."""
    pids = run.facts["pids"]
    return {part: sum(map(cpu_of, pids[part])) for part in PARTS}


def cpu_of(pid: int) -> float:
    """CPU seconds of a process since its start, with its children."""
    process = psutil.Process(pid)
    spent = process.cpu_times()
    total = spent.user + spent.system + spent.children_user + spent.children_system
    for child in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            total += times.user + times.system
    return total
