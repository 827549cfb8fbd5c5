"""Failures of a small share of requests, which a page would be too much for: after bad days they send a ticket."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from service.engine.formats import key_names
from tests.harness.running import HOME
from tests.harness.waiting import cancel, elapse
from tests.lab.faults.watched import Undo, Watched


async def fail_some(deployment: Watched) -> Undo:
    """The record of a code has a wrong type in Redis, and every five seconds a shopper comes with this code."""
    await deployment.add_codes("TORN-1")
    await deployment.make("/v1/coupons/assign/TORN-1", {"userId": "ann"})
    workspace = await deployment.pool.fetchval("SELECT workspace FROM workspaces WHERE name = 'drill'")
    key, client = key_names.coupon(key_names.prefix(HOME, workspace), "TORN-1"), deployment.primary.client
    await client.delete(key)
    await client.lpush(key, "x")
    return _repeat(5, partial(deployment.ask, "POST", "/v1/coupons/redeem/TORN-1", {"userId": "ann"}))


async def delay_some(deployment: Watched) -> Undo:
    """Every ten seconds Redis is away for a second and a half."""
    return _repeat(10, partial(deployment.primary.client.client_pause, 1500))


async def delay_recording(deployment: Watched) -> Undo:
    """Every quarter of an hour a transaction locks redemptions for 25 s."""

    async def lock() -> None:
        unlock = await deployment.lock_table("redemptions")
        await elapse(25, "an event is older than ten seconds at one look of Prometheus")
        await unlock()

    return _repeat(900, lock)


def _repeat(pause_s: float, act: Callable[[], Awaitable[Any]]) -> Undo:
    """Do this again and again, with pauses, until the end."""

    async def repeat() -> None:
        while True:
            await act()
            await elapse(pause_s, "a small share of the time")

    return partial(cancel, asyncio.create_task(repeat()))
