"""What the tests of moves share: two partitions, and a shop in the first."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from tests.integration.moving.moving_fixtures import MovingShop, open_shop
from tests.integration.opening.fleet import Fleet


@pytest.fixture
def partitions() -> int:
    return 2


@pytest.fixture
async def shop(fleet: Fleet, redis: Redis) -> AsyncIterator[MovingShop]:
    async with open_shop(fleet, redis) as shop:
        yield shop
