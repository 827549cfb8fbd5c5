"""What all tests share."""

import os
import shutil

import pytest

pytest_plugins = ["tests.service_fixture"]


def require(name: str) -> str:
    """The path of a program the test needs. Without it the test is skipped, and fails where CI is set."""
    path = shutil.which(name)
    if path is not None:
        return path
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not installed")
    pytest.skip(f"{name} is not installed")
