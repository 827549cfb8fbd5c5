"""Scheduled comparisons: the worker compares once a day, and webhooks get the differences."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest

from service.engine.record.queries import query
from tests.harness.commands import scrip
from tests.harness.drifts import DriftWorkspace, populated
from tests.harness.service_fixture import Service, new_id, ok
from tests.harness.waiting import until, wait_until
from tests.integration.webhooks.webhook_fixtures import Receiver


async def test_once_a_day(
    own_service: Callable[[], Service], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that starts after the time waits for the next day. Then it compares once and changes nothing; a webhook
    gets differences, and nothing of a comparison without any."""
    monkeypatch.setenv("SCRIP_RECONCILE_AT", f"{datetime.now(UTC) - timedelta(minutes=1):%H:%M}")
    service = await asyncio.to_thread(own_service)
    workspace = await asyncio.to_thread(populated, service)
    made = {"url": receiver.url(), "events": ["reconcile.drift"]}
    ok(await asyncio.to_thread(lambda: service.operate.post("/v1/webhooks", json=made)), 201)
    await wait_until(lambda: service.fetch("SELECT FROM reconciling"))  # the worker has looked
    assert not compares(service)
    assert await asyncio.to_thread(compared_at, service) is None
    assert await last_comparisons(service) == [(0, False, {})]

    await a_day_goes_by(service)
    first = await asyncio.to_thread(until, lambda: compared_at(service))
    # Its process writes the result first, and then the time from which a day is counted.
    await asyncio.to_thread(until, lambda: not compares(service))
    await asyncio.to_thread(count_more, workspace, 5)
    await a_day_goes_by(service)
    second = await asyncio.to_thread(until, lambda: (at := compared_at(service)) != first and at)
    answer = await asyncio.to_thread(read_consistency, service)
    assert answer["drift"] == {"book_counts": 1}
    await asyncio.to_thread(until, lambda: receiver.got)
    assert [(got.type, got.event["data"]) for got in receiver.got] == [
        (
            "reconcile.drift",
            {"found": {"book_counts": 1}, "left": {"book_counts": 1}, "reconciledTo": answer["reconciledTo"]},
        )
    ]
    assert await last_comparisons(service) == [(0, True, {"book_counts": 1})]
    await asyncio.to_thread(until, lambda: not compares(service))
    assert await asyncio.to_thread(compared_at, service) == second


def compares(service: Service) -> bool:
    """Whether the worker runs a comparison now."""
    (worker,) = service.run.facts["pids"]["worker"]
    for child in psutil.Process(worker).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since
            if "reconcile" in child.cmdline():
                return True
    return False


def read_consistency(service: Service) -> dict[str, Any]:
    return ok(service.operate.get("/v1/ops/consistency"))


async def last_comparisons(service: Service) -> list[tuple[int, bool, dict[str, int]]]:
    """What the metrics show: by partition, whether there was a comparison, and what differs."""
    rows = await service.fetch(query("read_last_comparisons"))
    return [(row["partition"], row["oldest"] is not None, json.loads(row["left_over"])) for row in rows]


def compared_at(service: Service) -> str | None:
    return read_consistency(service)["lastReconciledAt"]


async def a_day_goes_by(service: Service) -> None:
    """Move the begin of the last comparison a day back."""
    assert await service.fetch("UPDATE reconciling SET begun_at = begun_at - interval '1 day' RETURNING partition")


def count_more(workspace: DriftWorkspace, by: int) -> None:
    with workspace.service.redis() as redis:
        redis.hincrby(workspace.key(f"n:{workspace.refuge}"), "redeemed", by)


async def test_a_workspace_that_cannot_be_compared(patient: Service) -> None:
    """The command compares the others, names it and exits with 2; the worker tries it again until it succeeds."""
    shop = await asyncio.to_thread(patient.make_workspace, new_id("odd"), "live")
    limits = "UPDATE workspaces SET limits = $2 WHERE workspace = $1"
    await patient.fetch(limits, shop.number, '{"nonsense": 1}')
    compared = await asyncio.to_thread(scrip, "reconcile", **patient.urls)
    assert (compared.exit_code, f"workspace {shop.number}." in compared.output) == (2, True)
    assert await patient.fetch("SELECT FROM reconciled WHERE workspace = $1", patient.number)
    failing = "SELECT FROM failing_tasks WHERE workspace = $1 AND task = 'reconciling' AND failures >= $2"
    await wait_until(lambda: patient.fetch(failing, shop.number, 2))
    await patient.fetch(limits, shop.number, None)
    await patient.fetch("UPDATE failing_tasks SET next_try_at = now()")

    async def is_forgotten() -> bool:
        return not await patient.fetch(failing, shop.number, 1)

    await wait_until(is_forgotten)
    assert await patient.fetch("SELECT FROM reconciled WHERE workspace = $1", shop.number)
