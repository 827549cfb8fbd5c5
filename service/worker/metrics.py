"""The worker's metrics. partition_worker.py, comparison_runner.py, task_supervisor.py and sender.py set them;
process.py serves them. Alerts and dashboards use the names and labels."""

from prometheus_client import Counter, Gauge, start_http_server

from service.worker.write_behind import Flusher

_HELD = Gauge("scrip_outbox_held_events", "Events in the outbox, if SCRIP_STANDBYS is set, else 0.", ["partition"])
_RATE = Gauge("scrip_recorded_events_per_second", "Recorded, over the last ten seconds.", ["partition"])
_RECORDED = Gauge("scrip_recorded_events", "Recorded by this worker since it took the partition.", ["partition"])
_TASK_FAILING = Gauge("scrip_task_failing", "1 while a task fails and is begun anew.", ["partition", "task"])
_TASK_FAILURES = Counter("scrip_task_failures", "How often a task has failed.", ["partition", "task"])


def count_task_failure(partition: int, task: str) -> None:
    _TASK_FAILING.labels(str(partition), task).set(1)
    _TASK_FAILURES.labels(str(partition), task).inc()


def clear_task_failure(partition: int, task: str) -> None:
    _TASK_FAILING.labels(str(partition), task).set(0)


_WEBHOOKS_PENDING = Gauge("scrip_webhook_pending_deliveries", "Deliveries that wait or are tried again.", ["partition"])
_WEBHOOKS_OLDEST = Gauge("scrip_webhook_oldest_pending_seconds", "How long the oldest has waited.", ["partition"])
_WEBHOOK_ATTEMPTS = Counter("scrip_webhook_attempts", "Deliveries attempted by this worker.", ["partition", "outcome"])
_WEBHOOKS_OFF = Counter("scrip_webhooks_switched_off", "Webhooks that this worker switched off.", ["partition"])


class Webhooks:
    """A sender's metrics."""

    def __init__(self, partition: int) -> None:
        label = str(partition)
        self._partition = label
        self._delivered = _WEBHOOK_ATTEMPTS.labels(label, "delivered")
        self._failed = _WEBHOOK_ATTEMPTS.labels(label, "failed")
        self.switched_off = _WEBHOOKS_OFF.labels(label).inc

    def set_pending(self, deliveries: int, oldest_s: float) -> None:
        _WEBHOOKS_PENDING.labels(self._partition).set(deliveries)
        _WEBHOOKS_OLDEST.labels(self._partition).set(oldest_s)

    def count_attempt(self, delivered: bool) -> None:
        (self._delivered if delivered else self._failed).inc()


def follow(partition: int, flusher: Flusher) -> None:
    """Read the partition's metrics from this flusher from now on."""
    label = str(partition)
    _HELD.labels(label).set_function(lambda: flusher.held)
    _RATE.labels(label).set_function(lambda: flusher.events_per_second)
    _RECORDED.labels(label).set_function(lambda: flusher.recorded)


def unfollow(partition: int) -> None:
    """Remove the partition's gauges: from now on they are another worker's."""
    for gauge in (_HELD, _RATE, _RECORDED, _TASK_FAILING, _WEBHOOKS_PENDING, _WEBHOOKS_OLDEST):
        gauge.remove_by_labels({"partition": str(partition)})


def serve(host: str, port: int | None) -> None:
    """Serve `GET /metrics` on its own port, if one is set."""
    if port is not None:
        start_http_server(port, addr=host)
