"""The number of series is bounded, and promtool finds nothing to complain about."""

import re
import subprocess
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from service.common import build_info
from service.common.tally import MAX_NAMES, SLOTS
from service.engine.formats.coupon_state import Class
from service.engine.operations.table import ROWS
from service.engine.record.facts.quarantined_events import Cause
from service.engine.worker import metrics, server_metrics
from service.server.answers.accounting import TIME_US, Answers
from service.server.in_postgres.comparisons import LastComparisons
from service.serving import request_metrics
from service.serving.partition_metrics import PartitionMetrics
from service.serving.process_metrics import ProcessMetrics
from service.serving.request_metrics import RequestMetrics
from tests.documents.test_pages import collectors_of
from tests.harness.plugin import require
from tests.unit.test_partition_metrics import AT, make_context
from tests.unit.test_worker_metrics import show_all

_PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
_PARTITIONS = 16
"""Of a new database."""


def _series(text: bytes) -> int:
    return sum(not line.startswith(b"#") for line in text.splitlines())


def _budget(process: str) -> int:
    (series,) = re.findall(rf"{process}\s[\w\s]*at most ([\d,]+)", _PAGE.read_text("utf-8"))
    return int(series.replace(",", ""))


@pytest.fixture(scope="module")
def api() -> bytes:
    """What an API shows in the worst case that the tally allows: each route, scope and outcome once."""
    answers = Answers()
    answers.busiest.add({workspace: [3, 2, 1] for workspace in range(1, 2 * SLOTS)})
    for row in ROWS:
        answers.tally.own.add((TIME_US, row.operation_id))
    for number in range(MAX_NAMES):
        answers.tally.own.add(("requests", f"GET /v1/{number}", "checkout", "4xx", "invalid"))
    registry = CollectorRegistry()
    partitions = PartitionMetrics()
    compared = LastComparisons(dict.fromkeys(get_args(Class), 1), AT)
    causes = {(partition, cause): 1 for partition in range(_PARTITIONS) for cause in get_args(Cause)}
    partitions.context = make_context(
        range(_PARTITIONS), compared=dict.fromkeys(range(_PARTITIONS), compared), quarantined=causes
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request_metrics, "workspace_names", {n: (f"shop-{n}", f"id-{n}") for n in range(2 * SLOTS)})
        for collector in (RequestMetrics(answers), ProcessMetrics(answers), partitions):
            registry.register(collector)
        return generate_latest(registry)


def test_the_budget_of_an_api(api: bytes) -> None:
    """An API with more workspaces than have a series each, and 16 partitions, stays within the documented number."""
    assert 0.8 * _budget("An API") < _series(api) <= _budget("An API")


@pytest.fixture(scope="module")
def worker() -> bytes:
    """What a worker shows of its own in the worst case."""
    show_all(_PARTITIONS)
    text = b"".join(
        generate_latest(cast("Any", collector)) for collector in collectors_of((build_info, metrics, server_metrics))
    )
    for partition in range(_PARTITIONS):
        metrics.unfollow(partition)
    return text


def test_the_budget_of_a_worker(worker: bytes) -> None:
    """A worker with 16 partitions whose tasks have all failed stays within the documented number."""
    assert 0.8 * _budget("a worker") < _series(worker) <= _budget("a worker")


@pytest.mark.parametrize("process", ["api", "worker"])
def test_the_format(process: str, request: pytest.FixtureRequest) -> None:
    """promtool accepts the names, types and texts of the metrics."""
    command = [require("promtool"), "check", "metrics"]
    checked = subprocess.run(command, input=request.getfixturevalue(process), capture_output=True, check=False)
    assert (checked.returncode, checked.stderr.decode()) == (0, "")
