"""A partition without a worker: every API process sees it by itself, and refuses what would never be recorded."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.engine.hot import unrecorded
from service.server.api import partition_watch
from service.serving import wiring
from tests.harness.service_fixture import Service, new_code, new_id
from tests.harness.serving import Served
from tests.harness.waiting import until


@pytest.fixture
def alone(patient: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A client of an API whose worker sleeps, with small bounds, which often counts quarantine and blocked codes."""
    for interval in ("COUNT_S", "COUNT_BLOCKED_S"):
        monkeypatch.setattr(wiring, interval, 0.1)
    monkeypatch.setattr(unrecorded, "FULL_EVENTS", 4)
    monkeypatch.setattr(unrecorded, "BEHIND_EVENTS", 6)
    patient.recorded()
    with Served(patient, tmp_path) as served, served.client("Bearer demo_checkout") as client:
        until(lambda: client.get("/health/ready").is_success)
        yield client


def _redeem(client: httpx.Client, code: str) -> tuple[int, str]:
    answer = client.post(f"/v1/coupons/redeem/{code}", json={"userId": new_id()})
    return answer.status_code, "" if answer.is_success else answer.json()["code"]


def test_the_bound_holds_without_a_worker(patient: Service, alone: httpx.Client) -> None:
    """At 80 % of the bound locks are refused, at the bound changes, never reads, until a worker has recorded them."""
    codes = [new_code() for _ in range(9)]
    patient.book(*codes)
    with patient.run.asleep("worker"):
        for code in codes[:4]:
            assert _redeem(alone, code) == (201, "")
        until(lambda: alone.post(f"/v1/coupons/lock/{codes[8]}", json={"userId": "u"}).status_code == 503)
        refused = alone.post(f"/v1/coupons/lock/{codes[8]}", json={"userId": "u"})
        assert (refused.json()["code"], "retry-after" in refused.headers) == ("behind", True)
        for code in codes[4:6]:
            assert _redeem(alone, code) == (201, "")
        until(lambda: _redeem(alone, codes[6]) == (503, "behind"))
        assert alone.get(f"/v1/coupons/{codes[0]}").is_success
    until(lambda: _redeem(alone, codes[7]) == (201, ""))
    until(lambda: alone.post(f"/v1/coupons/lock/{codes[8]}", json={"userId": "u"}).is_success)


def test_a_missing_worker_is_named(patient: Service, alone: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a live lease, readiness, consistency and metrics name the worker; with one they no longer do."""
    mine, shown = f"worker of partition {patient.partition}", f'scrip_worker_missing{{partition="{patient.partition}"}}'
    monkeypatch.setattr(partition_watch, "MISSING_S", 0.5)

    def failing() -> list[str]:
        ready = alone.get("/health/ready")
        return ready.json()["failing"] if ready.is_success else []

    until(lambda: mine not in failing())
    with patient.run.asleep("worker"):
        until(lambda: mine in failing())
        tasks = alone.get("/v1/ops/consistency", headers=patient.operate.headers).json()["failing"]
        assert [(one["task"], one["reason"]) for one in tasks] == [("worker", "NoLiveLease")]
        until(lambda: f"{shown} 1.0" in alone.get("/metrics").text)
    until(lambda: mine not in failing())
    until(lambda: f"{shown} 0.0" in alone.get("/metrics").text)


async def test_quarantine_is_counted_from_its_table(patient: Service, alone: httpx.Client) -> None:
    """The metric has every cause of every partition, for events of any process, and falls when they are gone."""

    def shows(cause: str, events: int) -> bool:
        name = f'scrip_quarantined_events{{cause="{cause}",partition="{patient.partition}"}} {events}.0'
        return name in alone.get("/metrics").text

    def counts(codes: int) -> bool:
        return f'scrip_blocked_codes{{partition="{patient.partition}"}} {codes}.0' in alone.get("/metrics").text

    until(lambda: shows("unrecorded", 0))
    for number, decided in enumerate(("x", "R 1 1 CODE-1", "U 1 1 CODE-1 ann 1 1", "A 1 1 CODE-2 ann 1 1")):
        insert = "INSERT INTO quarantine VALUES ($1, 1, $2, 'unrecorded', 'test', $3, 'x')"
        await patient.fetch(insert, patient.partition, number, decided.encode())
    until(lambda: shows("unrecorded", 4) and shows("refused", 0))
    until(lambda: counts(2))
    await patient.fetch("DELETE FROM quarantine")
    until(lambda: shows("unrecorded", 0))
