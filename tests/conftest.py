"""What all tests share."""

import os
import shutil
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

pytest_plugins = ["tests.service_fixture"]

_LONG = (
    "faults recovery interleavings schemathesis run names load console_looks restocking processes console "
    "doctor matrix checkout_page standby opening secrets cluster many model reconcile_turns fencing_model refusals "
    "reconcile sessions fencing pooler sentinels opening_steps bench drifts console_telling workers webhook_sending "
    "keep_free cli_errors quarantined managed erasing retiring versions bad_requests many_partitions limited "
    "rebuild_command leases schema_page planted"
).split()
"""The slow files, the slowest first, so that parallel runs end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort slow files to the front; within a file the order stays."""
    rank = {f"test_{name}": place for place, name in enumerate(_LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


def require(name: str) -> str:
    """The path of a program the test needs; without it the test is left out."""
    return shutil.which(name) or leave_out(f"{name} is not installed")


def leave_out(reason: str) -> NoReturn:
    """Skip the test, since it can't run here; it fails where CI is set."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
