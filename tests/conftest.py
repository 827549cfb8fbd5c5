"""What all tests share."""

import pytest

pytest.register_assert_rewrite("tests.lua.consistency", "tests.lua.outbox", "tests.model.rebuilding")
"""Failed checks of these show what they compared."""

pytest_plugins = ["tests.harness.plugin"]
