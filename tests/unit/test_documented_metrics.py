"""docs/metrics.md lists each metric with its type and labels, and no other."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase

from service.common import build_info
from service.engine.worker import metrics, server_metrics
from service.server.tasks import job_metrics
from service.serving import partition_metrics, process_metrics, request_metrics

_PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
_PROCESSES = {
    "API processes": (build_info, request_metrics, process_metrics, partition_metrics),
    "Workers": (build_info, metrics, server_metrics, job_metrics),
}

Described = dict[str, tuple[str, tuple[str, ...]]]


def _documented(process: str) -> Described:
    section = _PAGE.read_text("utf-8").partition(f"## {process}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([\w, ]*)\|", section, re.MULTILINE)
    return {name: (kind, tuple(labels.replace(",", " ").split())) for name, kind, labels in rows}


def collectors_of(modules: Iterable[object]) -> list[Any]:
    """The metrics that these modules make, and their collectors."""
    objects = [one for module in modules for one in vars(module).values()]
    return [one for one in objects if hasattr(one, "describe") and not isinstance(one, type)]


def _exported(modules: Iterable[object]) -> Described:
    exported: Described = {}
    for collector in collectors_of(modules):
        for family in collector.describe():
            labels = collector if isinstance(collector, MetricWrapperBase) else family
            name = f"{family.name}_total" if family.type == "counter" else family.name
            exported[name] = (family.type, tuple(labels._labelnames))
    return exported


@pytest.mark.parametrize("process", _PROCESSES)
def test_documented_metrics(process: str) -> None:
    """Each metric of a process is documented with its type and labels, and each documented metric exists."""
    exported = _exported(_PROCESSES[process])
    assert len(exported) > 10
    assert _documented(process) == exported
