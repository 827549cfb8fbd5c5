"""The number of series is bounded, and promtool finds nothing to complain about."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from service.common.tally import MAX_NAMES, SLOTS
from service.formats.coupon_state import Class
from service.operations.accounting import Answers
from service.record.facts.quarantined_events import Cause
from service.record.partitions.comparisons import LastComparisons
from service.serving import request_metrics
from service.serving.partition_metrics import PartitionMetrics
from service.serving.process_metrics import ProcessMetrics
from service.serving.request_metrics import RequestMetrics
from tests.unit.test_partition_metrics import AT, make_context

_PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
_PARTITIONS = 16
"""Of a new database."""


def _series(text: bytes) -> int:
    return sum(not line.startswith(b"#") for line in text.splitlines())


def _budget(process: str) -> int:
    (series,) = re.findall(rf"{process}[\w ]* has at most ([\d,]+)", _PAGE.read_text("utf-8"))
    return int(series.replace(",", ""))


@pytest.fixture(scope="module")
def api() -> bytes:
    """What an API shows in the worst case that the tally allows: each route, scope and outcome once."""
    answers = Answers()
    answers.busiest.add({workspace: [3, 2, 1] for workspace in range(1, 2 * SLOTS)})
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


def test_the_format(api: bytes) -> None:
    """promtool accepts the names, types and texts of the metrics."""
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed (apt package prometheus)")
    checked = subprocess.run([promtool, "check", "metrics"], input=api, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr.decode()) == (0, "")
