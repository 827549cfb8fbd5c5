"""Make request ids, and count responses for /metrics, the log and the console's history, on every path: the fast lane,
request_middleware.py and flash_sale.py count; request_metrics.py and wiring.py read."""

import asyncio
import re
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import structlog
import uuid_utils

from service.common.durations import find_bound
from service.common.tally import Name, Tally
from service.engine.domain.outcomes import BY_CODE
from service.engine.operations.caller import read_account
from service.engine.operations.table import ROWS
from service.server.answers.busiest import RESULTS, Busiest

LINE_S = 1.0
MAX_FAILURES = 20
"""Log lines for single 5xx responses, per LINE_S."""

_SUCCESSES = (200, 201, 204)
UNLOGGED = ("GET /health/", "GET /metrics")
"""How routes begin that are neither logged nor traced."""

REQUESTS, TIMES, TIME_US = "requests", "times", "time_us"
"""Counters of the tally by route, scope, class of status and outcome; by operation and bound; by operation."""
REFUSED_CONNECTIONS = "refused_connections"
"""Counters of the tally without a label."""
UNKNOWN = "-"
"""The route of requests that have none."""
NOBODY = 0
"""The account, and the workspace, of a request without valid credentials."""
TIMED_EACH = 32
"""Of so many equal responses of a second, one is timed and counts for all."""
_UNTIMED = TIMED_EACH - 1
_DONE = {row.route: row.done for row in ROWS if row.done}
_OPERATIONS = {row.route: row.operation_id for row in ROWS}

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


class Exemplar(NamedTuple):
    """A request that was timed, and when (time.time)."""

    request_id: str
    took_s: float
    at_s: float


class Traffic(NamedTuple):
    """The responses to a workspace's requests within some seconds."""

    counts: Counter[str]
    """Successful operations by their row's `done`, and refusals by code."""
    times: Counter[int]
    """Response times of hot operations, by the bounds of service/common/durations.py."""


class Answers:
    """Counts responses, by account, route and outcome, once a second: for /metrics, for the console's history by
    workspace, and for one log line.

    The line has one request of that second as a sample. Each 5xx response has its own line. Within a second all counts
    are in one dict: cells of the tally, or a prometheus counter, would cost each request more. Of equal responses
    within a second the first is timed, and then each 32nd, so that a busy process reads the clock seldom.
    """

    def __init__(self) -> None:
        self.share(Tally())
        self.roles: dict[str, Sequence[str]] = {row.route: row.roles for row in ROWS}
        """The roles of each route (service/serving/app.py adds those of Litestar). Other routes count as UNKNOWN."""
        self.exemplars: dict[tuple[str, int], Exemplar] = {}
        """By operation and bound: the last request of this process that was timed."""
        self._by_outcome: dict[tuple[int, str, str | int], int] = {}
        self._times: defaultdict[int, Counter[int]] = defaultdict(Counter)
        self._traffic = _begin_traffic()
        self._line: Counter[str] = Counter()
        self._sample: dict[str, object] = {}
        self._failures = 0
        self._is_timer_set = False

    def share(self, tally: Tally) -> None:
        """Count in this tally from now on, which other processes may share."""
        self.tally, self.busiest = tally, Busiest(tally)

    def note(self, account: int, route: str, status: int, outcome: str, request_id: str, began_s: float) -> None:
        """Count a response. Call within an event loop.

        `account` is the caller's, or NOBODY, `route` method and path without codes and ids, `outcome` a refusal's
        code or '', `began_s` a time by now_s.
        """
        name = (account, route, outcome or status)
        counts = self._by_outcome
        try:
            count = counts[name] = counts[name] + 1
        except KeyError:
            self._note_first(name, status, request_id, began_s)
        else:
            if not count & _UNTIMED:
                self._time(account, route, began_s, TIMED_EACH, request_id)
        if status >= 500 and not route.startswith(UNLOGGED):
            self._failures += 1
            if self._failures <= MAX_FAILURES:
                log.warning("request_answered_5xx", **_log_fields(route, status, request_id, began_s), outcome=outcome)

    def _note_first(self, name: tuple[int, str, str | int], status: int, request_id: str, began_s: float) -> None:
        """Count the first response of this name in this second."""
        account, route, _ = name
        if not self._is_timer_set:
            self._is_timer_set = True
            asyncio.get_running_loop().call_later(LINE_S, self.write)
        if not self._sample and not route.startswith(UNLOGGED):
            self._sample = _log_fields(route, status, request_id, began_s)
        self._by_outcome[name] = 1
        self._time(account, route, began_s, 1, request_id)

    def _time(self, account: int, route: str, began_s: float, weight: int, request_id: str) -> None:
        operation = _OPERATIONS.get(route)
        if account == NOBODY or operation is None:
            return
        took_s = now_s() - began_s
        bound = find_bound(took_s)
        self._times[account][bound] += weight
        self.tally.own.add((TIMES, operation, str(bound)), weight)
        self.tally.own.add((TIME_US, operation), round(took_s * 1e6) * weight)
        self.exemplars[operation, bound] = Exemplar(request_id, took_s, time.time())

    def write(self) -> None:
        """Fold, and log what was counted since the last line."""
        self.fold()
        if self._line:
            log.info("answers", counts=dict(self._line), sample=self._sample)
        self._line, self._failures, self._is_timer_set = Counter(), 0, False
        self._sample = {}

    def fold(self) -> None:
        """Add the counts since the last call to the tally, and to the traffic of each workspace."""
        by_outcome = self._by_outcome
        self._by_outcome = {}
        times, self._times = self._times, defaultdict(Counter)
        results: defaultdict[int, list[int]] = defaultdict(lambda: [0] * len(RESULTS))
        for (account, route, outcome), count in by_outcome.items():
            workspace, roles = read_account(account)
            status = outcome if isinstance(outcome, int) else BY_CODE[outcome].status
            self.tally.own.add((REQUESTS, *self._labels(route, roles, status, outcome)), count)
            if not route.startswith(UNLOGGED):
                self._line[f"{route} {outcome}"] += count
            if workspace != NOBODY:
                results[workspace][max(status // 100 - 3, 0)] += count
                name = _DONE.get(route) if outcome in _SUCCESSES else outcome
                if isinstance(name, str):
                    self._traffic[workspace].counts[name] += count
        for account, counts in times.items():
            self._traffic[read_account(account)[0]].times.update(counts)
        self.busiest.add(results)

    def _labels(self, route: str, roles: Sequence[str], status: int, outcome: str | int) -> Name:
        """Route, scope, status class, outcome. Only the application's routes are labels: clients choose methods."""
        may = self.roles.get(route)
        scope = next((role for role in may or () if role in roles), "none")
        known = outcome if isinstance(outcome, str) else "ok" if status < 400 else "other"
        return (UNKNOWN if may is None else route, scope, f"{status // 100}xx", known)

    def note_refused_connection(self) -> None:
        """Count a connection beyond the bound."""
        self.tally.own.add((REFUSED_CONNECTIONS,))

    def take_traffic(self) -> dict[int, Traffic]:
        """The traffic by workspace since the last call, without the last second."""
        taken, self._traffic = self._traffic, _begin_traffic()
        return taken


def _begin_traffic() -> defaultdict[int, Traffic]:
    return defaultdict(lambda: Traffic(Counter(), Counter()))


def _log_fields(route: str, status: int, request_id: str, began_s: float) -> dict[str, object]:
    ms = round((now_s() - began_s) * 1000, 1)
    return {"route": route, "status": status, "request_id": request_id, "ms": ms}


answers = Answers()
