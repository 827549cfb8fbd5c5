"""What all tests share."""

import gc
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog
from hypothesis import HealthCheck, settings

from service.cli import worker_orders
from service.engine.hot import connection, discovery
from tests.harness.progress import ProgressDisplay
from tests.harness.waiting import PATIENCE_S

settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
pytest_plugins = ["tests.harness.service_fixture"]

TESTS = Path(__file__).parents[1]
QUICK = {
    "client": "tour",
    "lua": "",
    "model": "planted",
    "unit": "alerts committee_model deploy_files fencing_model leases metrics_budget oldest_python server tally",
}
"""Folders that `make test` runs, without these files: it needs Python alone, and takes five minutes on two cores."""
CHOSEN = {
    "integration/access": "isolation jwks keys",
    "integration/coupons": "batch configuration_api hot_path reading recalling waiting",
    "integration/histories": "histories retention",
    "integration/opening": "old_knowledge opening_steps partitions versions",
    "integration/recording": "configuration_record facts flush flush_refused housekeeping outbox pool recorded_keys",
    "integration/requests": "bad_requests bounds_of_ids empty_bodies exact_paths fastlane_equal headers openapi "
    "refusals",
    "integration/webhooks": "webhook_answers",
}
"""Of other folders `make test` runs these files alone. `make check` runs what `make test` leaves out: all other files,
and in MIXED the tests that are marked `check`."""
MIXED = ("lua", "model")


def pytest_configure(config: pytest.Config) -> None:
    """On a terminal, show what several processes run and what is left, unless more or less was asked for."""
    if sys.stdout.isatty() and config.getoption("numprocesses", None) and config.get_verbosity() == 0:
        config.pluginmanager.register(ProgressDisplay())


_configure_logs = structlog.configure


def _configure_uncached(cache_logger_on_first_use: bool | None = None, **options: Any) -> None:
    """A logger that a test's command has cached would ignore `capture_logs` in all later tests of the process."""
    _configure_logs(**options)


structlog.configure = _configure_uncached  # type: ignore[bad-assignment]
# By default structlog shows each local variable of each frame: seconds for one traceback, in which Postgres ends a
# waiting transaction of the test.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)
os.environ.setdefault("SCRIP_RECONCILE_AT", "off")  # a comparison by the clock would run beside a test's own
worker_orders.WORKER_S = PATIENCE_S
connection.STALL_S = PATIENCE_S  # a Redis that is silent for longer counts as lost
connection.CONNECT_S = discovery.CONNECT_S = discovery.REPLY_S = (
    PATIENCE_S  # one that accepts no connection, or names no primary, as away
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stride", choices=["test", "check"], help="run what `make test` runs, or what `make check` runs")


def is_quick(path: Path) -> bool:
    """Whether `make test` runs a file of tests."""
    folder, name = os.path.relpath(path.parent, TESTS), path.stem.removeprefix("test_")
    if folder in QUICK:
        return name not in QUICK[folder].split()
    return name in CHOSEN.get(folder, "").split()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import the files of the other stride."""
    stride = config.getoption("stride")
    if stride is None or not collection_path.match("test_*.py"):
        return None
    mixed = stride == "check" and collection_path.parent.name in MIXED
    return None if mixed or is_quick(collection_path) == (stride == "test") else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a file that both strides run, leave out the tests of the other one."""
    stride = config.getoption("stride")
    if stride is None:
        return
    parts: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        of_test = is_quick(item.path) and item.get_closest_marker("check") is None
        parts[of_test == (stride == "test")].append(item)
    config.hook.pytest_deselected(items=parts[False])
    items[:] = parts[True]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say in one line what `make test` left out."""
    if config.getoption("stride") == "test":
        left = [path for path in TESTS.rglob("test_*.py") if not is_quick(path)]
        folders = ", ".join(sorted({path.relative_to(TESTS).parts[0] for path in left}))
        terminalreporter.write_line(f"Left to `make check`: {len(left)} files of {folders}; Debian's Redis; deploy/.")


class _LeftTasks(logging.Handler):
    """Keeps what asyncio reports of tasks that never ended."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "Task was destroyed" in record.getMessage():
            self.texts.append(record.getMessage())


@pytest.fixture(scope="session")
def _left_tasks() -> Iterator[_LeftTasks]:
    left = _LeftTasks()
    logging.getLogger("asyncio").addHandler(left)
    yield left
    gc.collect()
    assert left.texts == []


@pytest.fixture(autouse=True)
def _no_task_is_left(_left_tasks: _LeftTasks) -> Iterator[None]:
    """Fail a test during which a task is destroyed that it, or one before it, left; the output then has the report."""
    yield
    texts, _left_tasks.texts = _left_tasks.texts, []
    assert texts == []


def require(name: str) -> str:
    """The path of a program the test needs; without it the test is left out."""
    return shutil.which(name) or leave_out(f"{name} is not installed")


def leave_out(reason: str) -> NoReturn:
    """Skip the test, since it can't run here; it fails where CI is set."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
