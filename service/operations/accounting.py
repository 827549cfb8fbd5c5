"""Request ids, and counts of responses for /metrics and the log, on every path through the service."""

import asyncio
import re
import time
from collections.abc import Iterator

import structlog
import uuid_utils
from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from service.common.tally import FIRST_COUNTER, STATUSES, Tally
from service.domain.outcomes import BY_CODE
from service.operations.table import ROWS

LINE_S = 1.0
MAX_FAILURES = 20
"""Log lines for single 5xx responses, per LINE_S."""

_USUAL = (200, 201, 204, 400, 401, 403, 404, 409, 422, 503)
_SUCCESSES = (200, 201)
_UNLOGGED = ("GET /health/", "GET /metrics")

_DONE = {row.route: row.done for row in ROWS if row.done}
_CELLS = {name: FIRST_COUNTER + index for index, name in enumerate([*dict.fromkeys(_DONE.values()), *BY_CODE])}
"""The shared counters of successes and of refusals by code."""

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


class Answers(Collector):
    """Counts responses: by status for /metrics, by route and outcome for one log line a second.

    The line has one request of that second as a sample. Each 5xx response has its own line. A prometheus counter takes
    1 µs for each `inc`, more than this class.
    """

    def __init__(self) -> None:
        self.share(Tally())
        self._by_outcome: dict[tuple[str, str | int], int] = {}
        self._sample: dict[str, object] = {}
        self._failures = 0

    def share(self, tally: Tally) -> None:
        """Count in this tally from now on, and report the sums of all processes that share it."""
        self._tally, self._by_status = tally, tally.own

    def note(self, route: str, status: int, outcome: str, request_id: str, began_s: float) -> None:
        """Count a response. Call within an event loop.

        `route` is method and path without codes and ids, `outcome` a refusal's code or '', `began_s` a time by now_s.
        """
        self._by_status[status] += 1
        name = (route, outcome or status)
        counts = self._by_outcome
        if name in counts:
            counts[name] += 1
        elif route.startswith(_UNLOGGED):
            return
        else:
            if not counts:
                asyncio.get_running_loop().call_later(LINE_S, self.write)
                self._sample = _log_fields(route, status, request_id, began_s)
            counts[name] = 1
        if status >= 500:
            self._failures += 1
            if self._failures <= MAX_FAILURES:
                log.warning("answered", **_log_fields(route, status, request_id, began_s), outcome=outcome)

    def write(self) -> None:
        """Log the last second, and add it to the shared counters."""
        if self._by_outcome:
            for (route, outcome), count in self._by_outcome.items():
                name = _DONE.get(route) if outcome in _SUCCESSES else outcome
                if name in _CELLS:
                    self._tally.own[_CELLS[name]] += count
            counts = {f"{route} {outcome}": count for (route, outcome), count in self._by_outcome.items()}
            log.info("answers", counts=counts, sample=self._sample)
        self._by_outcome, self._failures = {}, 0

    def totals(self) -> dict[str, int]:
        """The non-zero counters of all processes, without the last second."""
        return {name: count for name, cell in _CELLS.items() if (count := self._tally.total(cell))}

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily("scrip_http_answers", "Answers by status.", labels=["status"])
        for status in range(STATUSES):
            if (count := self._tally.total(status)) or status in _USUAL:
                family.add_metric([str(status)], count)
        yield family


def _log_fields(route: str, status: int, request_id: str, began_s: float) -> dict[str, object]:
    ms = round((now_s() - began_s) * 1000, 1)
    return {"route": route, "status": status, "request_id": request_id, "ms": ms}


answers = Answers()
REGISTRY.register(answers)
