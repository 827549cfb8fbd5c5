"""Metrics of each partition, as this process sees it: correct also without a worker. wiring.py makes them known. Alerts
and dashboards use the names and labels."""

from collections.abc import Iterator

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.api.context import Context


class PartitionMetrics(Collector):
    """Gauges of the partitions. The API processes show the same."""

    def __init__(self) -> None:
        self.context: Context | None = None
        """Of the running application."""

    def collect(self) -> Iterator[Metric]:
        if (context := self.context) is None:
            return
        watch = context.watch
        closed = _family("scrip_partition_closed", "1 for a partition that is not open, with the reason.", "reason")
        for partition in context.partitions:
            if partition not in context.open_partitions:
                closed.add_metric([str(partition), context.kept_closed.get(partition, "closed")], 1)
        missing = _family("scrip_worker_missing", "1 if no living worker has had the lease for ten seconds, else 0.")
        without = watch.without_worker()
        for partition in context.partitions:
            missing.add_metric([str(partition)], partition in without)
        pending = _family("scrip_outbox_pending_events", "Events in the outbox that are not recorded.")
        lag = _family("scrip_outbox_lag_seconds", "No event older than this is unrecorded.")
        for partition, unrecorded in watch.unrecorded().items():
            pending.add_metric([str(partition)], unrecorded.events)
            lag.add_metric([str(partition)], unrecorded.seconds)
        quarantined = _family("scrip_quarantined_events", "Events in quarantine; each is an alarm.", "cause")
        for (partition, cause), events in watch.quarantined.items():
            quarantined.add_metric([str(partition), cause], events)
        blocked = _family("scrip_blocked_codes", "Codes that events in quarantine name: they are, or will be, blocked.")
        for partition, codes in watch.blocked.items():
            blocked.add_metric([str(partition)], codes)
        yield from (closed, missing, pending, lag, quarantined, blocked)


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["partition", *labels])


partition_metrics = PartitionMetrics()
REGISTRY.register(partition_metrics)
