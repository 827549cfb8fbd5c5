"""Failed checks show what they compared."""

import pytest

pytest.register_assert_rewrite("tests.lua.consistency", "tests.lua.outbox", "tests.model.rebuilding")
