"""Comparisons that nobody asks for: the worker compares once a day, and webhooks hear of what was found."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from loadtests.harness.servers import free_port
from tests.drifts.subject import World, populated
from tests.integration.webhook_fixtures import Receiver
from tests.service_fixture import Service, ok, until

QUIET_S = 4.0
"""In which a turn that is due would have begun."""


@pytest.fixture
async def heard() -> AsyncIterator[Receiver]:
    """Hears of drift."""
    async with Receiver().listening() as listening:
        yield listening


def last_minute() -> str:
    """A time of day that is just over."""
    return f"{datetime.now(UTC) - timedelta(minutes=1):%H:%M}"


async def test_once_a_day(own_service: Callable[[], Service], heard: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is started after the time waits for the next day's. Then it compares everything once, changes
    nothing, and who wants to know hears what differs; of a comparison that finds nothing, nobody does."""
    monkeypatch.setenv("SCRIP_RECONCILE_AT", last_minute())
    monkeypatch.setenv("SCRIP_METRICS_PORT", str(port := free_port()))
    service = await asyncio.to_thread(own_service)
    world = await asyncio.to_thread(populated, service)
    made = {"url": heard.url(), "events": ["reconcile.drift"]}
    ok(await asyncio.to_thread(lambda: service.operate.post("/v1/webhooks", json=made)), 201)
    await asyncio.sleep(QUIET_S)
    assert await asyncio.to_thread(compared_at, service) is None

    await a_day_goes_by(service)
    first = await asyncio.to_thread(until, lambda: compared_at(service))
    await asyncio.to_thread(count_more, world, 5)
    await asyncio.sleep(QUIET_S)
    assert await asyncio.to_thread(compared_at, service) == first
    assert heard.got == []

    await a_day_goes_by(service)
    second = await asyncio.to_thread(until, lambda: (at := compared_at(service)) != first and at)
    told = await asyncio.to_thread(consistency, service)
    assert told["drift"] == {"book_counts": 1}
    await asyncio.to_thread(until, lambda: heard.got)
    assert [(got.type, got.said["data"]) for got in heard.got] == [
        (
            "reconcile.drift",
            {"found": {"book_counts": 1}, "left": {"book_counts": 1}, "reconciledTo": told["reconciledTo"]},
        )
    ]
    shown = 'scrip_drift{drift="book_counts",partition="0"} 1.0'
    await asyncio.to_thread(until, lambda: shown in httpx.get(f"http://127.0.0.1:{port}/metrics").text)
    await asyncio.sleep(QUIET_S)
    assert await asyncio.to_thread(compared_at, service) == second


def consistency(service: Service) -> dict[str, Any]:
    """What operators read."""
    return ok(service.operate.get("/v1/ops/consistency"))


def compared_at(service: Service) -> str | None:
    """When everything was compared last."""
    return consistency(service)["lastReconciledAt"]


async def a_day_goes_by(service: Service) -> None:
    """As far as turns are counted."""
    assert await service.fetch("UPDATE reconciling SET begun_at = begun_at - interval '1 day' RETURNING partition")


def count_more(world: World, by: int) -> None:
    """Let a book count so many more than there are."""
    with world.service.redis() as redis:
        redis.hincrby(world.key(f"n:{world.refuge}"), "redeemed", by)
