"""Metrics of each partition, as this process sees it: correct also without a worker. wiring.py sets `context`. Alerts
and dashboards use the names and labels."""

from collections.abc import Iterator
from typing import Any, get_args

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.engine.formats.coupon_state import Class
from service.server.api.context import Context


class PartitionMetrics(Collector):
    """Gauges of the partitions. The API processes show the same."""

    def __init__(self) -> None:
        self.context: Context | None = None
        """Of the running application."""

    def describe(self) -> Iterator[Metric]:
        yield from self._families().values()

    def collect(self) -> Iterator[Metric]:
        if self.context is None:
            return
        families = self._families()
        for name, value, *labels in self._measure(self.context):
            families[name].add_metric([str(label) for label in labels], value)
        yield from families.values()

    def _measure(self, context: Context) -> Iterator[tuple[Any, ...]]:
        """Names, values and labels."""
        watch = context.watch
        without = watch.without_worker()
        yield "scrip_postgres_up", watch.has_postgres
        for partition in context.deciding.partitions:
            if partition not in context.deciding.open:
                yield "scrip_partition_closed", 1, partition, context.deciding.kept_closed.get(partition, "closed")
            yield "scrip_redis_up", partition in watch.gates, partition
            yield "scrip_partition_epoch", watch.epochs[partition], partition
            yield "scrip_worker_missing", partition in without, partition
        for partition, state in watch.gates.items():
            yield "scrip_gate_state", 1, partition, state
        for (partition, cause), events in watch.quarantined.items():
            yield "scrip_quarantined_events", events, partition, cause
        for partition, codes in watch.blocked.items():
            yield "scrip_blocked_codes", codes, partition
        for partition, (left_over, oldest) in watch.compared.items():
            yield "scrip_reconciled_timestamp_seconds", oldest.timestamp() if oldest else 0, partition
            for class_ in get_args(Class) if oldest else ():
                yield "scrip_drift", left_over.get(class_, 0), partition, class_

    def _families(self) -> dict[str, GaugeMetricFamily]:
        texts = {
            "scrip_postgres_up": "1 if Postgres answered when it was polled last, else 0.",
            "scrip_redis_up partition": "1 if the partition's Redis answered when it was read last, else 0.",
            "scrip_partition_closed partition reason": "1 for a partition that is not open, with the reason.",
            "scrip_gate_state partition state": "1 for the state of the partition's gate, if Redis answers.",
            "scrip_partition_epoch partition": "The newest epoch.",
            "scrip_worker_missing partition": "1 if no living worker has had the lease for ten seconds, else 0.",
            "scrip_quarantined_events partition cause": "Events in quarantine; each is an alarm.",
            "scrip_blocked_codes partition": "Codes that events in quarantine name: they are, or will be, blocked.",
            "scrip_reconciled_timestamp_seconds partition": "When the oldest of the last comparisons was; 0 for never.",
            "scrip_drift partition drift": "What differs by class, as the last comparisons left it.",
        }
        return {
            name: GaugeMetricFamily(name, text, labels=labels)
            for (name, *labels), text in ((head.split(), text) for head, text in texts.items())
        }


partition_metrics = PartitionMetrics()
REGISTRY.register(partition_metrics)
