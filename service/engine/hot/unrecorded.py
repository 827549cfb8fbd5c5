"""How much of a partition is decided in Redis and not recorded in Postgres, and what is refused because of it.

write_behind.py sets the gate by it. API processes (partition_watch.py) measure it too: there may be no worker. Alerts
and dashboards use the names of BacklogMetrics.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from service.engine.formats.event_id import NO_EVENT, EventId, count_after

BEHIND_EVENTS = 1_000_000
FULL_EVENTS = 800_000
FULL_AT = 0.8
"""The share of the longest time."""
REOPEN_AT = 0.9

State = Literal["open", "full", "behind"]


class Backlog(NamedTuple):
    """The unrecorded events of a partition, and the age of the oldest of them."""

    partition: int
    events: int
    oldest_ms: int


class Unrecorded:
    """One partition. The state is `behind` at a million events, or if the oldest is `max_s` old; `full` at 80 % of
    either. To open again, both must be a tenth below."""

    def __init__(self, max_s: float) -> None:
        self._max_s = max_s
        self._cursor = self._tail = NO_EVENT
        self._length: int | None = None
        self._tails: deque[tuple[float, EventId]] = deque(maxlen=10_000)
        self._caught_up_at = time.monotonic()
        self._state: State = "open"

    @property
    def events(self) -> int:
        """Unrecorded events in the outbox, as of its last reading."""
        events = count_after(self._cursor, self._tail)
        return events if self._length is None else min(events, self._length)

    @property
    def seconds(self) -> float:
        """An upper bound for the age of the oldest unrecorded event; 0 if there is none."""
        return time.monotonic() - self._caught_up_at if self.events else 0.0

    def see_tail(self, tail: EventId, length: int | None = None) -> None:
        """Take over the outbox's last event, and its length if the cursor may be old: recorded entries leave it."""
        self._tail, self._length = tail, length
        self._tails.append((time.monotonic(), tail))
        self.see_cursor(self._cursor)

    def see_cursor(self, cursor: EventId) -> None:
        """Take over the last recorded event."""
        self._cursor = cursor
        while self._tails and self._tails[0][1] <= cursor:
            self._caught_up_at = self._tails.popleft()[0]

    def count_backlog(self, partition: int) -> Backlog:
        """What is unrecorded now, if this is the partition's."""
        return Backlog(partition, self.events, round(self.seconds * 1000))

    def state(self, held: int = 0) -> State:
        """The gate's state for what Postgres lacks, or its standbys: `held` events."""
        events, seconds = max(self.events, held), self.seconds
        behind = REOPEN_AT if self._state == "behind" else 1
        full = REOPEN_AT if self._state != "open" else 1
        if events >= BEHIND_EVENTS * behind or seconds >= self._max_s * behind:
            self._state = "behind"
        elif events >= FULL_EVENTS * full or seconds >= self._max_s * FULL_AT * full:
            self._state = "full"
        else:
            self._state = "open"
        return self._state


class BacklogMetrics(Collector):
    """Gauges of what this process knows: an API and a worker show the same of a partition."""

    def __init__(self) -> None:
        self.read: Callable[[], Iterable[Backlog]] = tuple
        """Of the running API or worker."""

    def describe(self) -> Iterator[GaugeMetricFamily]:
        labels = ["partition"]
        yield GaugeMetricFamily("scrip_outbox_pending_events", "Events that are not recorded.", labels=labels)
        yield GaugeMetricFamily("scrip_outbox_lag_seconds", "No event older than this is unrecorded.", labels=labels)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        pending, lag = self.describe()
        for one in self.read():
            pending.add_metric([str(one.partition)], one.events)
            lag.add_metric([str(one.partition)], one.oldest_ms / 1000)
        yield from (pending, lag)


backlog_metrics = BacklogMetrics()
REGISTRY.register(backlog_metrics)
