"""`scrip rebuild`: an operator has Redis built again from Postgres."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from service.cli import recovery
from tests.commands import scrip
from tests.service_fixture import Service, new_code, new_id, ok, until


@pytest.fixture
def rebuild(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command on a service."""
    monkeypatch.setattr(recovery, "START_TIMEOUT_S", 6.0)

    def run(service: Service, *options: str) -> Result:
        return scrip("rebuild", *options, DATABASE_URL=service.run.facts["databaseUrl"])

    return run


async def _recovery(service: Service) -> dict[str, Any]:
    (row,) = await service.fetch("SELECT kind, reason, total, done FROM recoveries ORDER BY epoch DESC LIMIT 1")
    return dict(row)


async def test_everything_is_built_again(patient: Service, rebuild: Callable[..., Result]) -> None:
    """What Redis held and Postgres hadn't yet is recorded first; then all is as it was, but for locks and the wrong."""
    code, wrong, user = new_code(), new_code(), new_id()
    book = patient.book(code, wrong, maxRedemptionsPerCode=2)
    made = ok(patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": user}), 201)
    before = patient.stats(book)
    with patient.redis() as client:
        (record,) = client.keys(f"*:c:{code}")
        client.delete(record)  # nobody but an operator sees that
    ended = rebuild(patient)
    assert ended.exit_code == 0, ended.output
    assert "Partition 0 is open again" in ended.output
    found = await _recovery(patient)
    assert (found["kind"], found["reason"], found["done"]) == ("whole", "an operator ordered it", found["total"])
    until(lambda: patient.checkout.get(f"/v1/coupons/{code}").is_success)
    assert patient.stats(book) == before
    last = ok(patient.checkout.get(f"/v1/coupons/{code}"))["lastRedemption"]
    assert last["redemptionId"] == made["redemptionId"]
    assert await patient.fetch("SELECT 1 FROM rebuild_orders") == []


async def test_a_gap_needs_a_word_more(patient: Service, rebuild: Callable[..., Result]) -> None:
    """Where an event is missing that was answered and never recorded, a rebuild goes on without it only when told so;
    what came after it is kept apart."""
    codes = [new_code() for _ in range(3)]
    book = patient.book(*codes)
    (worker,) = patient.run.facts["pids"]["worker"]
    os.kill(worker, signal.SIGSTOP)
    for code in codes:
        ok(patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": new_id()}), 201)
    with patient.redis() as client:
        entries = client.xrevrange("{p0}:outbox", count=6)
        (lost,) = [entry for entry, fields in entries if f" {codes[1]} " in fields["d"]]
        client.xdel("{p0}:outbox", lost)
    os.kill(worker, signal.SIGCONT)
    until(lambda: patient.checkout.post("/v1/coupons/assign", json={"bookId": book, "userId": "u"}).status_code == 503)

    refused_ = rebuild(patient)
    assert refused_.exit_code == 1
    assert "--accept-loss" in refused_.output
    ended = rebuild(patient, "--accept-loss")
    assert ended.exit_code == 0, ended.output
    until(lambda: patient.checkout.get(f"/v1/coupons/{codes[0]}").is_success)
    seen = [ok(patient.checkout.get(f"/v1/coupons/{code}"))["status"] for code in codes]
    assert seen == ["redeemed", "available", "available"]
    kept = await patient.fetch("SELECT d FROM quarantine")
    assert any(codes[2].encode() in row["d"] for row in kept)
    assert (await _recovery(patient))["kind"] == "whole"


async def test_without_a_worker(patient: Service, rebuild: Callable[..., Result]) -> None:
    """The command says so; the order stands until it is taken back, and the worker that comes carries it out."""
    (worker,) = patient.run.facts["pids"]["worker"]
    os.kill(worker, signal.SIGSTOP)
    await patient.fetch("UPDATE partitions SET lease_until = now() - interval '1 s'")
    ended = rebuild(patient)
    assert ended.exit_code == 1
    assert "Start one" in ended.output
    assert len(await patient.fetch("SELECT 1 FROM rebuild_orders")) == 1
    assert (rebuild(patient, "--cancel")).exit_code == 0
    assert await patient.fetch("SELECT 1 FROM rebuild_orders") == []
    assert (rebuild(patient, "--partition", "7")).output == "Error: There is no such partition.\n"
    os.kill(worker, signal.SIGCONT)
    until(lambda: patient.checkout.get("/v1/users/nobody").is_success)


def test_bad_calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Without a database, or with one that isn't there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert "DATABASE_URL is not set" in scrip("rebuild").output
    assert "can't be reached" in scrip("rebuild", DATABASE_URL="postgresql://127.0.0.1:9/none").output
