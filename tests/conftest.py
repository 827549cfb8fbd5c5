"""What all tests share."""

import os
import shutil
from typing import NoReturn

import pytest

pytest_plugins = ["tests.service_fixture"]


def require(name: str) -> str:
    """The path of a program the test needs; without it the test is left out."""
    return shutil.which(name) or leave_out(f"{name} is not installed")


def leave_out(reason: str) -> NoReturn:
    """Skip the test, since it can't run here; it fails where CI is set."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
