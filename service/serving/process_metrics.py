"""Metrics of the API processes themselves. Each measures itself, and each shows the sums."""

import time
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

from prometheus_client import GC_COLLECTOR, PROCESS_COLLECTOR, REGISTRY, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.common.certificates import expires_s
from service.common.tally import CONNECTIONS, IN_FLIGHT, PID, POOL_IDLE, POOL_USED, POOL_WAITING, REDIS_IN_FLIGHT
from service.engine.record.pool import count_waiting
from service.server.answers.accounting import REFUSED_CONNECTIONS, Answers, answers
from service.server.api.context import Context

_CPU_US = "cpu_us"
_SUMS = ("process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds")


class ProcessMetrics(Collector):
    """Connections, pools and requests in flight."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.context: Context | None = None
        """Of the running application."""
        self.connections: Collection[Any] = ()
        """Of clients, of the class Bounded."""
        self._has_others = False
        self._cpu_us = 0

    def replace_pythons(self) -> None:
        """Show sums in place of the collectors of prometheus_client, which measure only the process that answers."""
        for collector in (PROCESS_COLLECTOR, GC_COLLECTOR):
            REGISTRY.unregister(collector)
        self._has_others = True

    def measure(self) -> None:
        """Measure this process. One of several does so each second."""
        own = self._answers.tally.own
        own.cells[CONNECTIONS] = len(self.connections)
        own.cells[IN_FLIGHT] = sum(connection.is_in_flight for connection in self.connections)
        if context := self.context:
            size, idle = context.pool.get_size(), context.pool.get_idle_size()
            own.cells[POOL_IDLE], own.cells[POOL_USED] = idle, size - idle
            own.cells[POOL_WAITING] = count_waiting(context.pool)
            own.cells[REDIS_IN_FLIGHT] = context.decider.waiting
        if self._has_others:
            was, self._cpu_us = self._cpu_us, time.process_time_ns() // 1000
            own.add((_CPU_US,), self._cpu_us - was)

    def describe(self) -> Iterator[Metric]:
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        self.measure()
        tally, counts = self._answers.tally, self._answers.tally.counts()
        yield GaugeMetricFamily("scrip_api_processes", "API processes that live.", len(tally.living()))
        yield GaugeMetricFamily("scrip_http_connections", "Open connections of clients.", tally.total(CONNECTIONS))
        text, refused = "Connections refused because there were too many.", counts[REFUSED_CONNECTIONS,]
        yield CounterMetricFamily("scrip_http_connections_refused", text, refused)
        text = "Requests that are being answered."
        yield GaugeMetricFamily("scrip_http_requests_in_flight", text, tally.total(IN_FLIGHT))
        text = "Requests sent to Redis that have no reply yet."
        yield GaugeMetricFamily("scrip_redis_requests_in_flight", text, tally.total(REDIS_IN_FLIGHT))
        text = "Callers that wait for a connection to Postgres."
        yield GaugeMetricFamily("scrip_postgres_pool_waiting", text, tally.total(POOL_WAITING))
        text = "Connections to Postgres, by state: idle, used."
        pool = GaugeMetricFamily("scrip_postgres_pool_connections", text, labels=["state"])
        for state, cell in (("idle", POOL_IDLE), ("used", POOL_USED)):
            pool.add_metric([state], tally.total(cell))
        yield pool
        text = "When the server's certificate expires, as of this process's last connection by TLS."
        certificates = GaugeMetricFamily("scrip_certificate_expires_timestamp_seconds", text, labels=["server"])
        for server, at_s in expires_s.items():
            certificates.add_metric([server], at_s)
        yield certificates
        if self._has_others:
            yield from self._sum_pythons(counts[_CPU_US,] / 1e6)

    def _sum_pythons(self, cpu_s: float) -> Iterator[Metric]:
        """The sums of what prometheus_client measures of a process. That of CPU includes processes that have ended."""
        sums = Counter[str]()
        for block in self._answers.tally.living():
            measured = ProcessCollector(pid=lambda pid=block.cells[PID]: pid, registry=None).collect()
            sums.update({one.name: one.samples[0].value for one in measured if one.name in _SUMS})
        for name, value in sums.items():
            yield GaugeMetricFamily(name, "The sum of all API processes.", value=value)
        yield CounterMetricFamily("process_cpu_seconds", "The sum of all API processes.", value=cpu_s)


process_metrics = ProcessMetrics(answers)
REGISTRY.register(process_metrics)
