"""Metrics of the servers that a worker uses: each Redis as its checks saw it, and Postgres by a look of its own."""

import asyncio
from collections.abc import Iterator

import asyncpg
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from service.engine.record.partitions.failing_tasks import count_set_aside
from service.engine.record.partitions.standby_rows import count_streaming
from service.engine.record.pool import wait_out_outage
from service.engine.record.processes import describe_process
from service.engine.worker import metrics
from service.engine.worker.server_watch import SharedRedis

LOOK_S = 15.0


class ServerMetrics(Collector):
    """Gauges of the servers to which there is a connection."""

    def __init__(self) -> None:
        self.redis: SharedRedis | None = None
        """Of the running worker."""
        self._postgres_offset_s: float | None = None

    async def follow_postgres(self, pool: asyncpg.Pool, standbys: int, process: str, connections: int) -> None:
        """Every 15 seconds look at Postgres: its clock, its standbys, and what tasks have set aside; and describe this
        process, which may open so many connections."""
        while True:
            self._postgres_offset_s = None
            with wait_out_outage():
                self._postgres_offset_s = -await describe_process(pool, process, connections)
                metrics.show_standbys(standbys, await count_streaming(pool))
                metrics.show_set_aside(await count_set_aside(pool))
            await asyncio.sleep(LOOK_S)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        for name, text in (
            ("scrip_redis_memory_used_bytes", "Memory that Redis uses."),
            ("scrip_redis_memory_limit_bytes", "Redis's maxmemory; 0 for none."),
            ("scrip_redis_persistence_failing", "1 if Redis's last write, rewrite or snapshot to disk failed, else 0."),
            ("scrip_clock_offset_seconds", "The server's clock less this worker's; of several, the largest."),
        ):
            yield GaugeMetricFamily(name, text, labels=["server"])

    def collect(self) -> Iterator[GaugeMetricFamily]:
        used, limit, failing, offset = self.describe()
        offsets = [0.0]
        for watch in self.redis.watches() if self.redis else ():
            if seen := watch.seen:
                server = [str(watch.connection.host or "socket")]
                used.add_metric(server, seen.used_bytes)
                limit.add_metric(server, seen.max_bytes)
                failing.add_metric(server, seen.writes_fail)
                offsets.append(watch.clock_offset_s)
        if self.redis:
            offset.add_metric(["redis"], max(offsets, key=abs))
        if self._postgres_offset_s is not None:
            offset.add_metric(["postgres"], self._postgres_offset_s)
        yield from (used, limit, failing, offset)


server_metrics = ServerMetrics()
REGISTRY.register(server_metrics)
