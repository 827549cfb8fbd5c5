"""On a terminal, several processes of tests show which tests run, for how long, and how many are left."""

import time

import pytest
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text


class ProgressDisplay:
    """Replaces the dots of passed tests. Failed tests are named at once."""

    def __init__(self) -> None:
        self._began_s: dict[str, float] = {}
        """When each running test began, by its id."""
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("tests"), TimeElapsedColumn())
        self._progress = Progress(*columns)
        self._bar = self._progress.add_task("", total=None)
        self._live = Live(get_renderable=self._render, refresh_per_second=4, transient=True)

    def pytest_sessionfinish(self) -> None:
        self._live.stop()

    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Each process collects all tests."""
        self._progress.update(self._bar, total=len(ids))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._live.start()
        self._began_s[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._began_s.pop(nodeid, None)
        self._progress.advance(self._bar)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._live.console.print(Text(f"{report.when} failed: {report.nodeid}", style="red"))

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Without a letter nothing is printed while tests run; the word is for the summary."""
        if report.passed:
            return report.outcome if report.when == "call" else "", "", ""
        category = "error" if report.failed and report.when != "call" else report.outcome
        return category, "", category.upper()

    def _render(self) -> RenderableType:
        now_s = time.monotonic()
        running = [f"{now_s - began_s:5.0f} s  {nodeid}" for nodeid, began_s in self._began_s.items()]
        return Group(self._progress, *(Text(line, overflow="ellipsis", no_wrap=True) for line in running))
