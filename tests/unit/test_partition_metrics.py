"""The metrics of partitions, as one API process sees them."""

import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.engine.domain.errors import Refusal
from service.engine.formats.event_id import NO_EVENT, EventId
from service.engine.hot import unrecorded
from service.engine.hot.unrecorded import backlog_metrics
from service.server.api.context import Context
from service.server.api.partition_watch import PartitionWatch
from service.server.in_postgres.comparisons import LastComparisons
from service.serving.partition_metrics import PartitionMetrics

AT = datetime(2026, 1, 1, tzinfo=UTC)


def make_context(partitions: range, **seen: Any) -> Context:
    """Of an API whose last partition is closed, as far as the metrics read it. `seen` is of its PartitionWatch."""
    usual = {
        "has_postgres": True,
        "gates": dict.fromkeys(partitions, "open"),
        "epochs": {partition: partition + 5 for partition in partitions},
        "blocked": dict.fromkeys(partitions, 4),
        "without_worker": dict,
    }
    last = partitions[-1]
    context = SimpleNamespace(
        watch=SimpleNamespace(**(usual | seen)),
        deciding=SimpleNamespace(
            partitions=partitions, open=set(partitions) - {last}, kept_closed={last: "postgres_older"}
        ),
    )
    return cast("Context", context)


def test_what_is_shown() -> None:
    """A partition that was never compared shows 0 and no drift; one whose Redis is away shows that, and no gate."""
    metrics = PartitionMetrics()
    assert list(metrics.collect()) == []
    metrics.context = make_context(
        range(3),
        gates={0: "open", 2: "closed"},
        compared={0: LastComparisons({"orders": 3}, AT), 1: LastComparisons({}, None)},
        quarantined={(0, "refused"): 2},
        without_worker=lambda: {1: 0.0},
    )
    shown = {
        (sample.name.removeprefix("scrip_"), *sample.labels.values()): sample.value
        for family in metrics.collect()
        for sample in family.samples
    }
    assert shown["postgres_up",] == 1
    assert [shown["redis_up", str(number)] for number in range(3)] == [1, 0, 1]
    assert {name: value for name, value in shown.items() if name[0] in ("gate_state", "partition_closed")} == {
        ("gate_state", "0", "open"): 1,
        ("gate_state", "2", "closed"): 1,
        ("partition_closed", "2", "postgres_older"): 1,
    }
    assert (shown["partition_epoch", "1"], shown["worker_missing", "1"], shown["worker_missing", "0"]) == (6, 1, 0)
    assert (shown["drift", "0", "orders"], shown["drift", "0", "gifts"]) == (3, 0)
    assert ("drift", "1", "orders") not in shown
    assert [shown.get(("reconciled_timestamp_seconds", str(number))) for number in range(3)] == [
        AT.timestamp(), 0, None,
    ]  # fmt: skip
    assert (shown["quarantined_events", "0", "refused"], shown["blocked_codes", "0"]) == (2, 4)


async def test_a_redis_that_is_away() -> None:
    """Redis counts as up while it answers; the gate is its last reply, or `closed` where Postgres has it as closed."""
    redis, watch = make_watch()
    watch.take_rows([make_row(0, "open"), make_row(1, "closed")])
    for number in range(2):
        await watch._poll(number)
    assert watch.gates == {0: "missing", 1: "closed"}
    redis.is_away = True
    await watch._poll(0)
    assert watch.gates == {1: "closed"}


async def test_what_an_api_knows_of_unrecorded_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Postgres events count from the last cursor that was read, and no longer once the next is read. Without
    Redis they are not shown: others may have recorded them."""
    redis, watch = make_watch()
    monkeypatch.setattr(backlog_metrics, "read", watch.take_backlog)

    def show() -> list[float]:
        samples = [sample for family in backlog_metrics.collect() for sample in family.samples]
        assert all(sample.labels == {"partition": "0"} for sample in samples)
        return [sample.value for sample in samples]

    watch.take_rows([make_row(0, "open", EventId(3, 10))])
    assert show() == []
    redis.tail, redis.length = EventId(3, 18), 100
    await watch._poll(0)
    later = time.monotonic() + 400
    monkeypatch.setattr(unrecorded, "time", SimpleNamespace(monotonic=lambda: later))
    events, seconds = show()
    assert (events, seconds >= 400) == (8, True)
    watch.take_rows([make_row(0, "open", EventId(3, 18))])
    assert show() == [0, 0]
    redis.tail = EventId(3, 20)
    await watch._poll(0)
    assert show()[0] == 2
    redis.is_away = True
    await watch._poll(0)
    assert show() == []


class _Redis:
    """As much of a Decider as a PartitionWatch reads."""

    def __init__(self) -> None:
        self.is_away, self.tail, self.length = False, NO_EVENT, 0

    async def _answer(self, value: Any) -> Any:
        if self.is_away:
            raise Refusal("unavailable")
        return value


def make_watch() -> tuple[_Redis, PartitionWatch]:
    redis = _Redis()
    decider = SimpleNamespace(
        read_gate_state=lambda _: redis._answer(""),
        read_outbox_length=lambda _: redis._answer(redis.length),
        read_tail=lambda _: redis._answer(redis.tail),
        restrict=lambda *_: None,
    )
    return redis, PartitionWatch(cast("Any", decider), 900)


def make_row(partition: int, state: str, cursor: EventId = NO_EVENT) -> Any:
    return SimpleNamespace(id=partition, epoch=3, cursor=cursor, state=state, lease_live=True)
