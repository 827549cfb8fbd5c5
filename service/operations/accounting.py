"""What every request has, whichever way it takes: an id, a count in /metrics, and its share of a line in the log."""

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
"""Lines of their own for answers of 5xx, in LINE_S."""

_USUAL = (200, 201, 204, 400, 401, 403, 404, 409, 422, 503)
_SUCCESSES = (200, 201)
_UNTOLD = ("GET /health/", "GET /metrics")

_DONE = {row.route: row.done for row in ROWS if row.done}
_CELLS = {name: FIRST_COUNTER + place for place, name in enumerate([*dict.fromkeys(_DONE.values()), *BY_CODE])}
"""Where all processes count what was done, and refusals by their code."""

is_request_id = re.compile(rb"[!-~]{1,128}\Z").match

SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""Of every answer that doesn't say otherwise: nobody guesses its type, learns its address, frames it, or keeps it."""

now_s = time.monotonic
"""What `began_s` goes by."""

log = structlog.get_logger()


def new_request_id() -> str:
    """For a request that came without a valid one."""
    return str(uuid_utils.uuid7())


class Answers(Collector):
    """Counts answers by status, for ever, and by route and outcome for one line a second, which also shows one request
    of that second whole. An answer of 5xx has a line of its own.

    A prometheus counter takes 1 µs for each `inc`, which this whole class does not.
    """

    def __init__(self) -> None:
        self.share(Tally())
        self._by_outcome: dict[tuple[str, str | int], int] = {}
        self._sample: dict[str, object] = {}
        self._failures = 0

    def share(self, tally: Tally) -> None:
        """From here on count by status in this tally, and tell its sums: of all processes that share it."""
        self._tally, self._by_status = tally, tally.own

    def note(self, route: str, status: int, outcome: str, request_id: str, began_s: float) -> None:
        """An answer goes out. `route` is method and path without codes and ids, `outcome` a refusal's code, else '';
        `began_s` is by now_s. Call within an event loop."""
        self._by_status[status] += 1
        name = (route, outcome or status)
        seen = self._by_outcome
        if name in seen:
            seen[name] += 1
        elif route.startswith(_UNTOLD):
            return
        else:
            if not seen:
                asyncio.get_running_loop().call_later(LINE_S, self.write)
                self._sample = _shown(route, status, request_id, began_s)
            seen[name] = 1
        if status >= 500:
            self._failures += 1
            if self._failures <= MAX_FAILURES:
                log.warning("answered", **_shown(route, status, request_id, began_s), outcome=outcome)

    def write(self) -> None:
        """The line of the second that is over, and its share of what all processes count."""
        if self._by_outcome:
            for (route, outcome), count in self._by_outcome.items():
                name = _DONE.get(route) if outcome in _SUCCESSES else outcome
                if name in _CELLS:
                    self._tally.own[_CELLS[name]] += count
            counts = {f"{route} {outcome}": count for (route, outcome), count in self._by_outcome.items()}
            log.info("answers", counts=counts, sample=self._sample)
        self._by_outcome, self._failures = {}, 0

    def totals(self) -> dict[str, int]:
        """How often each thing was done or refused, by all processes, but for the last second; never 0."""
        return {name: count for name, cell in _CELLS.items() if (count := self._tally.total(cell))}

    def collect(self) -> Iterator[CounterMetricFamily]:
        """For /metrics."""
        family = CounterMetricFamily("scrip_http_answers", "Answers by status.", labels=["status"])
        for status in range(STATUSES):
            if (count := self._tally.total(status)) or status in _USUAL:
                family.add_metric([str(status)], count)
        yield family


def _shown(route: str, status: int, request_id: str, began_s: float) -> dict[str, object]:
    ms = round((now_s() - began_s) * 1000, 1)
    return {"route": route, "status": status, "request_id": request_id, "ms": ms}


answers = Answers()
REGISTRY.register(answers)
