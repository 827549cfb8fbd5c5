"""Requests in flight, CPU time, memory and open files of all API processes, as Prometheus metrics."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.common.tally import CPU_US, PID, Tally

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def count_in_flight(connections: Iterable[Any]) -> int:
    """Count the requests in flight on connections of the class Bounded."""
    return sum(connection.is_in_flight for connection in connections)


class RequestsInFlight(Collector):
    """The requests that are being answered, the one for the metrics among them."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def collect(self) -> Iterator[Metric]:
        text = "Requests of all API processes that are being answered."
        yield GaugeMetricFamily("scrip_http_requests_in_flight", text, value=self._count())


class ResourceUsage(Collector):
    """Sums over all API processes, under the usual names of one process's metrics.

    CPU time includes processes that have ended, except up to the last 0.1 s of a killed one. Memory and open files are
    exported only on systems with /proc.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterator[Metric]:
        pids = [pid for block in self._tally.blocks if (pid := block[PID])]
        yield GaugeMetricFamily("scrip_api_processes", "API processes that live.", value=len(pids))
        cpu_s = self._tally.total(CPU_US) / 1e6
        yield CounterMetricFamily("process_cpu_seconds", "User and system CPU time of all API processes.", value=cpu_s)
        resident_bytes = files = 0
        for pid in pids:
            try:
                resident_bytes += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
                files += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
            except OSError:  # the process has just ended
                continue
        if resident_bytes:
            yield GaugeMetricFamily(
                "process_resident_memory_bytes", "Resident memory of all API processes.", value=resident_bytes
            )
            yield GaugeMetricFamily("process_open_fds", "Open files of all API processes.", value=files)
