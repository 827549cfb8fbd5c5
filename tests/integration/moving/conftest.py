"""What the tests of moves share: two partitions, and a shop in the first."""

import pytest

from tests.integration.moving.moving_fixtures import shop

__all__ = ["shop"]


@pytest.fixture
def partitions() -> int:
    return 2
