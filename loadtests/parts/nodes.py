"""What a request costs on a cluster of one primary and of three: CPU of the API, of all nodes, and of the worker.

A workspace in each of 12 partitions, all loaded at once with plain pairs of lock and redeem. The two clusters take
turns. Needs a C compiler.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from loadtests import generator
from loadtests.figures import markdown, say
from loadtests.ground import Ground
from loadtests.own import ROOT, cpu_of
from loadtests.wire import Barrage
from service.embedded.postgres import Postgres
from service.record.migrations import migrate
from service.record.partitions.partition_rows import ensure_partitions
from service.record.pool import connect
from tests.harness.cluster import Cluster, start_cluster
from tests.harness.running import data_folder, is_ready
from tests.harness.servers import VALKEY, free_port
from tests.harness.workspaces import make_workspace

PARTITIONS = 12
PRIMARIES = (1, 3)
LIMIT_S = 120
HEADS = ("primaries", "API, µs", "nodes, µs", "worker, µs", "requests a second")


def add_options(options: argparse.ArgumentParser) -> None:
    """How much."""
    options.add_argument("--rounds", type=int, default=4, help="of each cluster (%(default)s)")
    options.add_argument("--pairs", type=int, default=500, help="of each workspace in a round (%(default)s)")
    options.add_argument("--connections", type=int, default=16, help="of each workspace (%(default)s)")


def run(chosen: argparse.Namespace) -> None:
    """Print a table: CPU µs of a request, the median of the rounds."""
    print(markdown(HEADS, asyncio.run(_measure(chosen.rounds, chosen.pairs, chosen.connections))))


async def _measure(rounds: int, pairs: int, connections: int) -> list[tuple[str, ...]]:
    spent: dict[int, list[_Spent]] = {primaries: [] for primaries in PRIMARIES}
    async with AsyncExitStack() as services:
        started = {
            primaries: await services.enter_async_context(_start(primaries, pairs * (rounds + 1)))
            for primaries in PRIMARIES
        }
        for number in range(rounds + 1):
            for primaries, service in started.items():
                one = await service.load(pairs, connections)
                say(f"{primaries} primaries: {_cells(one)}")
                if number:  # by then everything is warm
                    spent[primaries].append(one)
    return [
        (str(primaries), *_cells(_Spent(*map(statistics.median, zip(*each, strict=True)))))
        for primaries, each in spent.items()
    ]


class _Spent(NamedTuple):
    """µs of CPU for a request, and requests a second."""

    api_us: float
    nodes_us: float
    worker_us: float
    rate: float


def _cells(spent: _Spent) -> tuple[str, ...]:
    return tuple(f"{value:,.0f}" for value in spent)


class _Service:
    """An API and a worker on a cluster, and a book of codes in each partition."""

    def __init__(self, cluster: Cluster, url: str, pids: tuple[int, int]) -> None:
        self._cluster, self._url = cluster, url
        self._api, self._worker = pids
        self._codes = self._taken = 0

    async def stock(self, codes: int) -> None:
        """Make the books."""
        self._codes = codes
        for partition in range(PARTITIONS):
            with Barrage(self._url, _key(partition)) as barrage:
                await Ground(barrage, 1).book([f"{_prefix(partition)}{number}" for number in range(codes)])

    async def load(self, pairs: int, connections: int) -> _Spent:
        """Lock and redeem so many codes of each book, all books at once."""
        before, began = self._cpu_s(), time.monotonic()
        loads = await asyncio.gather(*(self._drive(partition, pairs, connections) for partition in range(PARTITIONS)))
        took_s = time.monotonic() - began
        wrong = [load.wrong for load in loads if load.wrong]
        assert not wrong, wrong
        self._taken += pairs
        asked = sum(load.answered for load in loads)
        api_us, nodes_us, worker_us = [
            (now - then) / asked * 1e6 for now, then in zip(self._cpu_s(), before, strict=True)
        ]
        return _Spent(api_us, nodes_us, worker_us, asked / took_s)

    async def _drive(self, partition: int, pairs: int, connections: int) -> generator.Load:
        return await generator.drive(
            self._url,
            _key(partition),
            "pairs",
            seconds=LIMIT_S,
            connections=connections,
            count=pairs,
            codes=self._codes,
            first=self._taken,
            prefix=_prefix(partition),
            run=f"r{partition}x{self._taken}",
        )

    def _cpu_s(self) -> tuple[float, float, float]:
        nodes = sum(cpu_of(node.process.pid) for node in self._cluster.nodes if node.process)
        return cpu_of(self._api), nodes, cpu_of(self._worker)


@asynccontextmanager
async def _start(primaries: int, codes: int) -> AsyncIterator[_Service]:
    with data_folder() as folder:
        keep_fd = os.open(os.devnull, os.O_RDONLY)
        postgres = Postgres(folder, keep_fd)
        options = ("--appendonly", "yes", "--appendfsync", "everysec")
        processes: list[subprocess.Popen[bytes]] = []
        with start_cluster(VALKEY, folder, *options, primaries=primaries, replicas=0) as cluster:
            try:
                await postgres.start()
                await migrate(postgres.url)
                port = free_port()
                env = os.environ | {"REDIS_URL": cluster.url, "DATABASE_URL": postgres.url, "SCRIP_PORT": str(port)}
                async with await connect(postgres.url) as pool:
                    await ensure_partitions(pool, PARTITIONS)
                processes += [_start_process(name, env, folder) for name in ("api", "worker")]
                url = f"http://127.0.0.1:{port}"
                await asyncio.to_thread(_wait_until_ready, url)
                async with await connect(postgres.url) as pool, pool.acquire() as connection:
                    for partition in range(PARTITIONS):
                        await make_workspace(connection, f"shop{partition}", "live", partition)
                service = _Service(cluster, url, (processes[0].pid, processes[1].pid))
                await asyncio.sleep(2)  # the API learns of the workspaces
                await service.stock(codes)
                yield service
            finally:
                for process in processes:
                    process.terminate()
                    await asyncio.to_thread(process.wait, 20)
                await postgres.stop()
                os.close(keep_fd)


def _start_process(name: str, env: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.log").open("wb") as output:
        argv = [sys.executable, "-m", "service", name]
        return subprocess.Popen(argv, cwd=ROOT, env=env, stdout=output, stderr=output)


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not is_ready(url):
        assert time.monotonic() < deadline, "the service is not ready"
        time.sleep(0.1)


def _key(partition: int) -> str:
    return f"shop{partition}_admin"


def _prefix(partition: int) -> str:
    return f"P{partition:02}-"
