"""Metrics of the servers that a worker uses: each Redis as its checks saw it; Postgres, sentinels and clocks by a look
of its own."""

import asyncio
from collections.abc import Iterator

import asyncpg
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from service.engine.record.partitions.failing_tasks import count_set_aside
from service.engine.record.partitions.standby_rows import count_streaming
from service.engine.record.pool import wait_out_outage
from service.engine.record.processes import describe_process, read_descriptions
from service.engine.record.server_state import ServerState, read_server_state
from service.engine.worker import metrics
from service.engine.worker.server_watch import SharedRedis

POLL_S = 15.0
_GAUGES = (
    ("scrip_redis_memory_used_bytes", "Memory that Redis uses.", "server"),
    ("scrip_redis_memory_limit_bytes", "Redis's maxmemory; 0 for none.", "server"),
    ("scrip_redis_persistence_failing", "1 if Redis's last write or snapshot to disk failed, else 0.", "server"),
    ("scrip_redis_replicas", "Replicas that are connected to Redis.", "server"),
    ("scrip_sentinels", "Sentinels of REDIS_URL that answer (up), or do not (down).", "state"),
    ("scrip_clock_offset_seconds", "A clock less this worker's; of several, the largest.", "server"),
    ("scrip_postgres_connections", "Connections of clients that Postgres has.", ""),
    ("scrip_postgres_connections_limit", "max_connections less what is reserved.", ""),
    ("scrip_archive_failing", "1 if Postgres's newest attempt to archive its WAL failed or hangs, else 0.", ""),
    ("scrip_standbys_missing", "SCRIP_STANDBYS less the standbys that stream. Only with SCRIP_STANDBYS.", ""),
)


class ServerMetrics(Collector):
    """Gauges of the servers to which there is a connection."""

    def __init__(self) -> None:
        self.redis: SharedRedis | None = None
        """Of the running worker."""
        self._offsets_s: dict[str, float] = {}
        """Of Postgres, of all APIs and of all workers; empty while Postgres is away."""
        self._server: ServerState | None = None
        self._standbys_missing: int | None = None
        self._sentinels: dict[str, int] = {}

    async def follow_servers(self, pool: asyncpg.Pool, standbys: int, process: str, connections: int) -> None:
        """Every 15 seconds look at sentinels and Postgres: its clock and those of processes, its connections, archive
        and standbys, and what tasks have set aside. Describe this process, which may open so many connections."""
        while True:
            if self.redis:
                views = await self.redis.ask_sentinels()
                down = views.count(None)
                self._sentinels = {"up": len(views) - down, "down": down} if views else {}
            # What the last look found is shown until this one ends: an alert with a gap would begin its time again.
            offsets_s: dict[str, float] = {}
            server = missing = None
            with wait_out_outage():
                ahead_s = await describe_process(pool, process, connections)
                found_s = {"postgres": -ahead_s}
                for one in await read_descriptions(pool):
                    other_s = (one.clock_ahead_s or 0.0) - ahead_s
                    found_s[one.kind] = max(found_s.get(one.kind, 0.0), other_s, key=abs)
                if standbys:
                    missing = max(standbys - await count_streaming(pool), 0)
                metrics.show_set_aside(await count_set_aside(pool))
                offsets_s, server = found_s, await read_server_state(pool)
            self._offsets_s, self._server, self._standbys_missing = offsets_s, server, missing
            await asyncio.sleep(POLL_S)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        for name, text, label in _GAUGES:
            yield GaugeMetricFamily(name, text, labels=[label] if label else [])

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families = [*self.describe()]
        used, limit, failing, replicas, sentinels, offset, connections, most, archive, standbys = families
        offsets = [0.0]
        for watch in self.redis.watches() if self.redis else ():
            if fitness := watch.last_fitness:
                server = [str(watch.connection.host or "socket")]
                used.add_metric(server, fitness.used_bytes)
                limit.add_metric(server, fitness.max_bytes)
                failing.add_metric(server, fitness.writes_fail)
                replicas.add_metric(server, fitness.replication.count)
                offsets.append(watch.clock_offset_s)
        if self.redis:
            offset.add_metric(["redis"], max(offsets, key=abs))
        for kind, offset_s in self._offsets_s.items():
            offset.add_metric([kind], offset_s)
        for state, number in self._sentinels.items():
            sentinels.add_metric([state], number)
        if server := self._server:
            connections.add_metric([], server.sessions)
            most.add_metric([], server.most_sessions)
            archive.add_metric([], server.archive_fails)
        if self._standbys_missing is not None:
            standbys.add_metric([], self._standbys_missing)
        yield from families


server_metrics = ServerMetrics()
REGISTRY.register(server_metrics)
