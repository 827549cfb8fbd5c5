"""Metrics of requests, from the counters that all API processes share."""

import re
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from service.common.durations import BOUNDS_US
from service.common.logs import workspace_names
from service.common.tally import Name
from service.engine.operations.table import ROWS
from service.server.answers.accounting import REQUESTS, TIME_US, TIMES, Answers, answers
from service.server.answers.busiest import OTHER, RESULTS

_is_shown = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch
"""Request ids are clients' texts: others than these are not shown."""
_OTHER = "other"


class RequestMetrics(Collector):
    """Counters and a histogram of all API processes; exemplars of the one that answers."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def describe(self) -> Iterator[Metric]:
        labels = ["route", "scope", "status", "outcome"]
        yield CounterMetricFamily("scrip_http_requests", "Requests that were answered.", labels=labels)
        text = "Response times of hot operations, of which one in 32 is timed for all."
        yield HistogramMetricFamily("scrip_operation_duration_seconds", text, labels=["operation"])
        text = "Requests of the 50 busiest workspaces, and of all others, by result: done, refused (4xx), failed (5xx)."
        yield CounterMetricFamily("scrip_workspace_requests", text, labels=["workspace", "result"])

    def collect(self) -> Iterator[Metric]:
        self._answers.fold()
        counts = self._answers.tally.counts()
        requests, times, of_workspaces = self.describe()
        for (kind, *labels), count in counts.items():
            if kind == REQUESTS:
                requests.add_metric(labels, count)  # type: ignore[attr-defined]
        for row in ROWS:
            if (TIME_US, row.operation_id) in counts:  # 32 series, which stay 0 for an unused operation
                self._add_times(times, row.operation_id, counts)  # type: ignore[arg-type]
        self._add_workspaces(of_workspaces, counts)  # type: ignore[arg-type]
        yield from (requests, times, of_workspaces)

    def _add_workspaces(self, family: CounterMetricFamily, counts: Mapping[Name, int]) -> None:
        for workspace, results in self._answers.busiest.read().items():
            if named := workspace_names.get(workspace):  # else it is new: its name is read within seconds
                name, workspace_id = named
                for result, count in zip(RESULTS, results, strict=True):
                    family.add_metric([workspace_id if name == _OTHER else name, result], count)
        for result in RESULTS:
            family.add_metric([_OTHER, result], counts.get((OTHER, result), 0))

    def _add_times(self, family: HistogramMetricFamily, operation: str, counts: Mapping[Name, int]) -> None:
        sums = accumulate(counts.get((TIMES, operation, str(bound)), 0) for bound in BOUNDS_US)
        buckets: list[Any] = [
            (f"{bound / 1e6:g}", float(sum_), self._exemplar(operation, bound))
            for bound, sum_ in zip(BOUNDS_US, sums, strict=True)
        ]
        buckets[-1] = ("+Inf", *buckets[-1][1:])  # the last class has what took longer, too
        family.add_metric([operation], buckets, counts.get((TIME_US, operation), 0) / 1e6)

    def _exemplar(self, operation: str, bound: int) -> Exemplar | None:
        one = self._answers.exemplars.get((operation, bound))
        if one is None or not _is_shown(one.request_id):
            return None
        return Exemplar({"request_id": one.request_id}, one.took_s, one.at_s)


request_metrics = RequestMetrics(answers)
REGISTRY.register(request_metrics)
