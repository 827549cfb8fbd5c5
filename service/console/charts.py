"""The history of the console's overview: an hour or a day of the workspace's traffic, and its partition's backlog.
session.py registers the route; charts.js draws what it returns, by these names. Steps are those of samples.py."""

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

from litestar import Controller, Request, get

from service.common.durations import quantile_ms
from service.engine.domain import field_types
from service.engine.domain.field_types import Answer
from service.engine.domain.outcomes import find_status
from service.engine.operations.table import DONE
from service.server.api.auth import FOR_OPERATORS
from service.server.api.reading import unpack_request
from service.server.in_postgres.samples import (
    KEEP_S,
    StoredBacklog,
    StoredTraffic,
    count_endings,
    read_backlog,
    read_traffic,
)

Span = Literal["hour", "day"]

SETTLE_S = 2
"""After a step's end, until processes have written their samples of it."""
_STEPS: dict[Span, int] = {"hour": 10, "day": 300}


class Wanted(field_types.Request):
    """How far back the history goes."""

    span: Span = "hour"


class Refused(Answer):
    """A refusal's code and status, and how many requests of the span got it."""

    code: str
    status: int
    count: int


class Charts(Answer):
    """Values by step, oldest first, from `since` on; None where nothing was sampled. `done` has counts of successful
    operations by name; `refused` counts responses with 4xx, `failed` those with 5xx. `backlog` and `oldest_ms` are
    each step's highest values, or None if the caller lacks the scope `operate`."""

    since: int
    """In ms, like `step`."""
    step: int
    done: dict[str, list[int | None]]
    refused: list[int | None]
    failed: list[int | None]
    p50_ms: list[float | None]
    p99_ms: list[float | None]
    backlog: list[int | None] | None
    oldest_ms: list[int | None] | None
    reasons: list[Refused]
    """All refusals and failures, the most frequent first."""


class History(Controller):
    path = "/"

    @get("/charts", opt=FOR_OPERATORS)
    async def charts(self, request: Request[Any, Any, Any]) -> Charts:
        """The workspace's charts of an hour or a day."""
        caller, context, params = unpack_request(request, Wanted)
        steps = complete_steps(time.time(), params.span)
        times = (steps.step, steps.start, steps.stop)
        traffic = await read_traffic(context.pool, caller.workspace, *times)
        backlog = None
        if "operate" in caller.scopes:
            backlog = await read_backlog(context.pool, caller.partition, *times)
        return draw(steps, traffic, backlog)


def complete_steps(now_s: float, span: Span) -> range:
    """The beginnings, in s, of the steps of a span that are complete and kept."""
    step = _STEPS[span]
    stop = int(now_s - SETTLE_S) // step * step
    return range(stop - KEEP_S[step], stop, step)


def draw(steps: range, traffic: Iterable[StoredTraffic], backlog: Iterable[StoredBacklog] | None) -> Charts:
    """The charts of what was stored of these steps."""
    by_step = {row.at_s: row for row in traffic}
    rows = [by_step.get(at_s) for at_s in steps]
    reasons = Counter[str]()
    for row in rows:
        reasons.update({} if row is None else {name: n for name, n in row.counts.items() if name not in DONE})
    endings = [count_endings(row.counts) if row else None for row in rows]
    behind = None if backlog is None else {row.at_s: row for row in backlog}
    return Charts(
        since=steps.start * 1000,
        step=steps.step * 1000,
        done={name: [row.counts.get(name, 0) if row else None for row in rows] for name in DONE},
        refused=[ended.refused if ended else None for ended in endings],
        failed=[ended.failed if ended else None for ended in endings],
        p50_ms=[quantile_ms(row.times, 0.5) if row else None for row in rows],
        p99_ms=[quantile_ms(row.times, 0.99) if row else None for row in rows],
        backlog=None if behind is None else [row.events if (row := behind.get(at_s)) else None for at_s in steps],
        oldest_ms=None if behind is None else [row.oldest_ms if (row := behind.get(at_s)) else None for at_s in steps],
        reasons=[Refused(code=name, status=find_status(name), count=count) for name, count in reasons.most_common()],
    )
