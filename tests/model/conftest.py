"""The machine's checks say what differs."""

import pytest

pytest.register_assert_rewrite("tests.lua.consistency", "tests.lua.outbox", "tests.model.rebuilding")
