"""The worker's metrics. Its parts count here, server_metrics.py reads the servers, and process.py serves all. Alerts
and dashboards use the names and labels."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple, get_args

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

disable_created_metrics()  # nothing reads when a counter began, and it would double the number of series

RetryError = Literal["disk_full", "connection", "timeout", "other"]
Step = Literal["begin", "restore", "settle", "finish"]
"""An opening's steps: until Redis is fenced; has the record; no process uses the last epoch; the gate is open."""
Way = Literal["verified", "redone", "rebuilt"]
"""How an opening restored Redis: it had everything; it got the end of the record; it got all of it."""

MAX_LOW_BOOKS = 50


class LowBook(NamedTuple):
    """The free codes of a book, by its id and the name of its workspace."""

    workspace: str
    book_id: str
    free: int


_HELD = Gauge("scrip_outbox_held_events", "Events in the outbox. Only with SCRIP_STANDBYS.", ["partition"])
_RECORDED = Counter("scrip_recorded_events", "Events recorded by this worker.", ["partition"])
_BATCH_EVENTS = Histogram(
    "scrip_recording_batch_events",
    "Events of a transaction that records.",
    buckets=(1, 3, 10, 30, 100, 300, 1000, 3000, 5000),
)
_RECORDING_S = Histogram(
    "scrip_recording_duration_seconds",
    "How long a transaction that records took.",
    buckets=(0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
_RETRIES = Counter("scrip_recording_retries", "Pauses of recording after an error.", ["partition", "error"])
_OPENING_S = Histogram(
    "scrip_opening_duration_seconds",
    "How long steps of openings took.",
    ["step"],
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800),
)
_OPENINGS = Counter("scrip_openings", "Openings, by how they restored Redis.", ["partition", "way"])
_EXPIRED = Counter("scrip_expired_locks", "Coupons whose expired locks were removed.", ["partition"])
_TASK_FAILING = Gauge("scrip_task_failing", "1 while a task fails and is started again.", ["partition", "task"])
_TASK_FAILURES = Counter(
    "scrip_task_failures", "How often a task, or one thing of it, has failed.", ["partition", "task"]
)
_SET_ASIDE = Gauge("scrip_set_aside", "Things that a task has set aside, as they fail.", ["partition", "task"])


def count_recorded(partition: int, events: int) -> None:
    _RECORDED.labels(str(partition)).inc(events)


@contextmanager
def time_recording(events: int) -> Iterator[None]:
    """Time a transaction of so many events; an error is not counted."""
    began_s = time.monotonic()
    yield
    _RECORDING_S.observe(time.monotonic() - began_s)
    _BATCH_EVENTS.observe(events)


def count_retry(partition: int, error: RetryError) -> None:
    _RETRIES.labels(str(partition), error).inc()


def time_opening(step: Step, began_s: float) -> None:
    """Time a step of an opening that ends now; `began_s` by time.monotonic."""
    _OPENING_S.labels(step).observe(time.monotonic() - began_s)


def count_opening(partition: int, way: Way) -> None:
    _OPENINGS.labels(str(partition), way).inc()


def count_expired_locks(partition: int, coupons: int) -> None:
    _EXPIRED.labels(str(partition)).inc(coupons)


def count_task_failure(partition: int, task: str) -> None:
    _TASK_FAILING.labels(str(partition), task).set(1)
    _TASK_FAILURES.labels(str(partition), task).inc()


def count_set_aside(partition: int, task: str) -> None:
    _TASK_FAILURES.labels(str(partition), task).inc()


def show_set_aside(counts: Mapping[tuple[int, str], int]) -> None:
    """Show how many things are set aside, by partition and task."""
    _SET_ASIDE.clear()
    for (partition, task), things in counts.items():
        _SET_ASIDE.labels(str(partition), task).set(things)


def show_task_failing(partition: int, task: str, *, is_failing: bool) -> None:
    _TASK_FAILING.labels(str(partition), task).set(is_failing)


_WEBHOOKS_PENDING = Gauge("scrip_webhook_pending_deliveries", "Deliveries that wait or are tried again.", ["partition"])
_WEBHOOKS_OLDEST = Gauge(
    "scrip_webhook_oldest_pending_seconds", "How long the oldest has waited, and whose.", ["partition", "workspace"]
)
_WEBHOOK_ATTEMPTS = Counter("scrip_webhook_attempts", "Deliveries attempted by this worker.", ["partition", "outcome"])
_WEBHOOKS_OFF = Counter(
    "scrip_webhooks_switched_off", "Webhooks that this worker switched off.", ["partition", "workspace"]
)


class LowBooks(Collector):
    """Free codes of books that have fewer than their threshold."""

    def __init__(self) -> None:
        self._books: dict[int, Sequence[LowBook]] = {}

    def show(self, partition: int, books: Sequence[LowBook]) -> None:
        self._books[partition] = books

    def clear(self, partition: int) -> None:
        self._books.pop(partition, None)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        text = f"Free codes of the {MAX_LOW_BOOKS} books with the fewest that have fewer than their lowStockThreshold."
        yield GaugeMetricFamily("scrip_book_free_codes", text, labels=["workspace", "book"])

    def collect(self) -> Iterator[GaugeMetricFamily]:
        (family,) = self.describe()
        books = sorted((one for books in self._books.values() for one in books), key=lambda one: one.free)
        for one in books[:MAX_LOW_BOOKS]:
            family.add_metric([one.workspace, one.book_id], one.free)
        yield family


class WorkspaceStorage(NamedTuple):
    """How much of its bound of storage a workspace uses, 1 for all."""

    workspace: str
    ratio: float


class Storage(Collector):
    """The workspaces that use most of their bound of storage."""

    def __init__(self) -> None:
        self._workspaces: dict[int, Sequence[WorkspaceStorage]] = {}

    def show(self, partition: int, workspaces: Sequence[WorkspaceStorage]) -> None:
        self._workspaces[partition] = workspaces

    def clear(self, partition: int) -> None:
        self._workspaces.pop(partition, None)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        text = f"Use of Redis by the {MAX_LOW_BOOKS} workspaces that use most of their bound, as a part of that."
        yield GaugeMetricFamily("scrip_workspace_storage_ratio", text, labels=["workspace"])

    def collect(self) -> Iterator[GaugeMetricFamily]:
        (family,) = self.describe()
        fullest = sorted((one for some in self._workspaces.values() for one in some), key=lambda one: -one.ratio)
        for one in fullest[:MAX_LOW_BOOKS]:
            family.add_metric([one.workspace], one.ratio)
        yield family


storage = Storage()
REGISTRY.register(storage)
low_books = LowBooks()
REGISTRY.register(low_books)


class Webhooks:
    """A sender's metrics."""

    def __init__(self, partition: int) -> None:
        label = str(partition)
        self._partition = label
        self._delivered = _WEBHOOK_ATTEMPTS.labels(label, "delivered")
        self._failed = _WEBHOOK_ATTEMPTS.labels(label, "failed")

    def set_pending(self, deliveries: int, oldest_s: float, workspace: str) -> None:
        """`workspace` has the oldest; '' for none."""
        _WEBHOOKS_PENDING.labels(self._partition).set(deliveries)
        _WEBHOOKS_OLDEST.remove_by_labels({"partition": self._partition})
        _WEBHOOKS_OLDEST.labels(self._partition, workspace).set(oldest_s)

    def count_switched_off(self, workspace: str) -> None:
        _WEBHOOKS_OFF.labels(self._partition, workspace).inc()

    def count_attempt(self, delivered: bool) -> None:
        (self._delivered if delivered else self._failed).inc()


def follow(partition: int, count_held: Callable[[], int] | None) -> None:
    """Show the partition's metrics from now on. Without standbys nothing is held for them."""
    label = str(partition)
    if count_held:
        _HELD.labels(label).set_function(count_held)
    _RECORDED.labels(label)
    _EXPIRED.labels(label)
    for error in get_args(RetryError):
        _RETRIES.labels(label, error)


def unfollow(partition: int) -> None:
    """Remove the partition's gauges: from now on they are another worker's. Its counters stay, as they only grow."""
    for gauge in (_HELD, _TASK_FAILING, _WEBHOOKS_PENDING, _WEBHOOKS_OLDEST):
        gauge.remove_by_labels({"partition": str(partition)})
    low_books.clear(partition)
    storage.clear(partition)
