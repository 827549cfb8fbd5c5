"""Connections to Redis, for tests: the service gives up within seconds, which is short for a busy machine."""

from service.common.redis_address import RedisAddress
from service.engine.hot.connection import Connection, connect
from tests.harness.waiting import wait_until


async def reach(where: str | RedisAddress, partition: int = 0) -> Connection:
    """As `connect` of the service, and again while that fails."""
    return await wait_until(lambda: connect(where, "tests", partition=partition), "a connection", away=(OSError,))
