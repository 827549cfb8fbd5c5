"""What all tests share."""

import gc
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from service.cli import worker_orders
from service.engine.hot import connection, discovery
from tests.harness.progress import ProgressDisplay
from tests.harness.waiting import PATIENCE_S

settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
pytest_plugins = ["tests.harness.service_fixture"]

_LONG = (
    "faults interleavings recovery schemathesis load console fencing opening doctor restore run matrix model "
    "processes refusals names committee_model console_looks webhook_sending reconcile reconcile_turns "
    "cluster secrets quarantine_command standby missing_worker opening_steps retention pooler bad_requests "
    "blocks bench_on_servers least_privilege restocking drifts keys many fencing_model quarantined many_partitions "
    "workers fastlane_equal planted readme wrong_type checkout_page console_telling bounds schema_page money fitness "
    "costs managed leases sentinels console_bulk properties erasing setting_aside versions console_data "
    "races_over_http usual_requests keep_free killed_sender lock replay mending batch_keys delete_user "
    "openings_at_once cli_errors clock console_timelines rebuild_command keeper tokens deployment bombs audit "
    "configuration_record erasing_keys gate disk examples mutants_table key_messages checkout"
).split()
"""The slow files, the slowest first, so that parallel runs end at about the same time."""


def pytest_configure(config: pytest.Config) -> None:
    """On a terminal, show what several processes run and what is left, unless more or less was asked for."""
    if sys.stdout.isatty() and config.getoption("numprocesses", None) and config.get_verbosity() == 0:
        config.pluginmanager.register(ProgressDisplay())


os.environ.setdefault("SCRIP_RECONCILE_AT", "off")  # a comparison by the clock would run beside a test's own
worker_orders.WORKER_S = PATIENCE_S
connection.STALL_S = PATIENCE_S  # a Redis that is silent for longer counts as lost
connection.CONNECT_S = discovery.CONNECT_S = discovery.REPLY_S = (
    PATIENCE_S  # one that accepts no connection, or names no primary, as away
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort slow files to the front; within a file the order stays."""
    rank = {f"test_{name}": place for place, name in enumerate(_LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


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
