"""What `scrip recover` prints before anything is done."""

from types import SimpleNamespace
from typing import Any

import pytest

from service.cli.recover import _print_plan
from service.engine.worker.opening.surplus_survey import SurplusReport


def test_a_plan_counts_the_blocked_codes_that_it_does_not_list(capsys: pytest.CaptureFixture[str]):
    row: Any = SimpleNamespace(id=0, state="closed")
    report = SurplusReport(0, blocked=12, listed=[(1, f"CODE-{number}") for number in range(12)])
    _print_plan(row, "it lacks 12 events", report, {1: "shop"})
    lines = [line for line in capsys.readouterr().out.splitlines() if "blocked by --apply" in line]
    assert len(lines) == 11
    assert lines[-1].endswith("2 more codes")
