"""The history of the console: quantiles, steps and gaps."""

from typing import Any

import pytest

from service.common.durations import BOUNDS_US, find_bound, quantile_ms
from service.console.charts import complete_steps, draw
from service.engine.operations.table import ROWS
from service.server.in_postgres.samples import StoredBacklog, StoredTraffic


def test_a_class_has_what_took_at_most_its_bound() -> None:
    """A duration is in the first class whose bound it does not exceed; the last class has all longer ones."""
    assert [find_bound(ms / 1000) for ms in (0, 0.2, 0.21, 1, 9.9)] == [200, 200, 300, 1000, 10_000]
    assert find_bound(3600) == BOUNDS_US[-1]


def test_quantiles() -> None:
    """A quantile lies in the class of its rank, as far as the rank is; without counts there is none."""
    times = {1000: 50, 2000: 49, 500_000: 1}
    assert [quantile_ms(times, share) for share in (0.5, 0.99, 1)] == [1.0, 2.0, 500.0]
    assert quantile_ms({1000: 100}, 0.5) == 0.85
    assert quantile_ms({}, 0.5) is None


@pytest.mark.parametrize(
    ("now_s", "span", "steps"),
    [
        (7211.9, "hour", range(3600, 7200, 10)),
        (7212, "hour", range(3610, 7210, 10)),
        (90_301, "day", range(3600, 90_000, 300)),
        (90_302, "day", range(3900, 90_300, 300)),
    ],
)
def test_only_complete_steps_are_drawn(now_s: float, span: Any, steps: range) -> None:
    """A span ends with the last step that ended two seconds ago, and has as many steps as are kept."""
    assert complete_steps(now_s, span) == steps


def test_a_step_without_samples_is_a_gap() -> None:
    """A step that no process sampled is None everywhere, one without requests zero; 5xx are failures."""
    traffic = [
        StoredTraffic(10, {"redeemed": 2, "coupon_locked": 3, "recovering": 1}, {1000: 1}),
        StoredTraffic(30, {}, {}),
    ]
    charts = draw(range(10, 50, 10), traffic, [StoredBacklog(20, 7, 40)])
    assert (charts.since, charts.step) == (10_000, 10_000)
    assert charts.done["redeemed"] == [2, None, 0, None]
    assert charts.done.keys() == {row.done for row in ROWS if row.done}
    assert (charts.refused, charts.failed) == ([3, None, 0, None], [1, None, 0, None])
    assert (charts.p50_ms[0], charts.p99_ms[1:]) == (0.85, [None] * 3)
    assert (charts.backlog, charts.oldest_ms) == ([None, 7, None, None], [None, 40, None, None])
    assert [(one.code, one.status, one.count) for one in charts.reasons] == [
        ("coupon_locked", 409, 3),
        ("recovering", 503, 1),
    ]
    assert draw(range(10, 20, 10), traffic, None).backlog is None
