"""Make request ids, and count responses for /metrics, the log and the console's history, on every path: the fast lane,
request_middleware.py and wiring.py call this."""

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

import structlog
import uuid_utils
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service.common.durations import BOUNDS_US, find_bound
from service.common.tally import DROPPED_NOTES, STATUSES, TIME_US, Tally
from service.operations.table import ROWS

LINE_S = 1.0
MAX_FAILURES = 20
"""Log lines for single 5xx responses, per LINE_S."""

_USUAL = (200, 201, 204, 400, 401, 403, 404, 409, 422, 503)
_SUCCESSES = (200, 201)
_UNLOGGED = ("GET /health/", "GET /metrics")

NOBODY = 0
"""The workspace of a request without valid credentials."""
TIMED_EACH = 32
"""Of so many equal responses of a second, one is timed and counts for all."""
_UNTIMED = TIMED_EACH - 1
_DONE = {row.route: row.done for row in ROWS if row.done}
_HOT = frozenset(row.route for row in ROWS)
_TIME_CELLS = {bound: TIME_US + 1 + place for place, bound in enumerate(BOUNDS_US)}

is_request_id = re.compile(rb"[!-~]{1,128}\Z").match

SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""Default headers of every response: no type sniffing, referrer, framing or caching."""

now_s = time.monotonic
"""The clock of `began_s`."""

log = structlog.get_logger()


def new_request_id() -> str:
    """The id of a request that has no valid one."""
    return str(uuid_utils.uuid7())


@dataclass(slots=True)
class Traffic:
    """The responses to a workspace's requests within some seconds."""

    counts: Counter[str] = field(default_factory=Counter[str])
    """Successful operations by their row's `done`, and refusals by code."""
    times: Counter[int] = field(default_factory=Counter[int])
    """Response times of hot operations, by the bounds of service/common/durations.py."""


class Answers(Collector):
    """Counts responses: by status for /metrics; by workspace, route and outcome for the console's history and for one
    log line a second.

    The line has one request of that second as a sample. Each 5xx response has its own line. A prometheus counter takes
    1 µs for each `inc`, more than this class. Of equal responses within a second the first is timed, and then each
    32nd, so that a busy process reads the clock seldom.
    """

    def __init__(self) -> None:
        self.share(Tally())
        self._by_outcome: dict[tuple[int, str, str | int], int] = {}
        self._times: defaultdict[int, Counter[int]] = defaultdict(Counter)
        self._traffic: defaultdict[int, Traffic] = defaultdict(Traffic)
        self._sample: dict[str, object] = {}
        self._failures = 0

    def share(self, tally: Tally) -> None:
        """Count in this tally from now on, and report the sums of all processes that share it."""
        self._tally, self._by_status = tally, tally.own

    def note(self, workspace: int, route: str, status: int, outcome: str, request_id: str, began_s: float) -> None:
        """Count a response. Call within an event loop.

        `workspace` is the caller's, or NOBODY, `route` method and path without codes and ids, `outcome` a refusal's
        code or '', `began_s` a time by now_s.
        """
        self._by_status[status] += 1
        name = (workspace, route, outcome or status)
        counts = self._by_outcome
        try:
            count = counts[name] = counts[name] + 1
        except KeyError:
            self._note_first(name, status, request_id, began_s)
        else:
            if not count & _UNTIMED:
                self._time(workspace, route, began_s, TIMED_EACH)
        if status >= 500 and not route.startswith(_UNLOGGED):
            self._failures += 1
            if self._failures <= MAX_FAILURES:
                log.warning("request_answered_5xx", **_log_fields(route, status, request_id, began_s), outcome=outcome)

    def _note_first(self, name: tuple[int, str, str | int], status: int, request_id: str, began_s: float) -> None:
        """Count the first response of this name in this second."""
        workspace, route, _ = name
        if route.startswith(_UNLOGGED):
            return
        if not self._by_outcome:
            asyncio.get_running_loop().call_later(LINE_S, self.write)
            self._sample = _log_fields(route, status, request_id, began_s)
        self._by_outcome[name] = 1
        self._time(workspace, route, began_s, 1)

    def _time(self, workspace: int, route: str, began_s: float, weight: int) -> None:
        if workspace != NOBODY and route in _HOT:
            took_s = now_s() - began_s
            bound = find_bound(took_s)
            self._times[workspace][bound] += weight
            self._tally.own[_TIME_CELLS[bound]] += weight
            self._tally.own[TIME_US] += round(took_s * 1e6) * weight

    def write(self) -> None:
        """Log the last second, and add it to the traffic of each workspace."""
        if self._by_outcome:
            counts = Counter[str]()
            for (workspace, route, outcome), count in self._by_outcome.items():
                counts[f"{route} {outcome}"] += count
                name = _DONE.get(route) if outcome in _SUCCESSES else outcome
                if workspace != NOBODY and isinstance(name, str):
                    self._traffic[workspace].counts[name] += count
            for workspace, times in self._times.items():
                self._traffic[workspace].times.update(times)
            log.info("answers", counts=dict(counts), sample=self._sample)
        self._by_outcome, self._times, self._failures = {}, defaultdict(Counter), 0

    def note_dropped(self, notes: int) -> None:
        """Count notes of locks that were dropped."""
        self._tally.own[DROPPED_NOTES] += notes

    def take_traffic(self) -> dict[int, Traffic]:
        """The traffic by workspace since the last call, without the last second."""
        taken, self._traffic = self._traffic, defaultdict(Traffic)
        return taken

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily("scrip_http_answers", "Answers by status.", labels=["status"])
        for status in range(STATUSES):
            if (count := self._tally.total(status)) or status in _USUAL:
                family.add_metric([str(status)], count)
        yield family
        dropped = CounterMetricFamily("scrip_lock_notes_dropped", "Notes of locks that were not written to Postgres.")
        dropped.add_metric([], self._tally.total(DROPPED_NOTES))
        yield dropped
        yield self._collect_times()

    def _collect_times(self) -> HistogramMetricFamily:
        counts = accumulate(self._tally.total(cell) for cell in _TIME_CELLS.values())
        buckets = [(f"{bound / 1e6:g}", float(count)) for bound, count in zip(BOUNDS_US, counts, strict=True)]
        buckets[-1] = ("+Inf", buckets[-1][1])  # the last class has what took longer, too
        return HistogramMetricFamily(
            "scrip_operation_duration_seconds",
            "Response times of hot operations, of which one in 32 is timed for all.",
            buckets=buckets,
            sum_value=self._tally.total(TIME_US) / 1e6,
        )


def _log_fields(route: str, status: int, request_id: str, began_s: float) -> dict[str, object]:
    ms = round((now_s() - began_s) * 1000, 1)
    return {"route": route, "status": status, "request_id": request_id, "ms": ms}


answers = Answers()
REGISTRY.register(answers)
