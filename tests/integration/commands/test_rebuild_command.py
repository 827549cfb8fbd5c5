"""`scrip rebuild`: an operator orders a Redis that is built from Postgres."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from service.cli import worker_orders
from service.engine.formats import key_names
from service.engine.hot.fencing import Nonce
from service.engine.record.actor import mask
from service.engine.record.partitions.openings import order_rebuild
from service.engine.worker.opening.old_server import CUT_OFF_S
from tests.harness.commands import scrip, succeeded
from tests.harness.service_fixture import Service, database, new_code, new_id, ok
from tests.harness.waiting import PATIENCE_S, until


@pytest.fixture
def rebuild(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command on a service. It waits `start_s` for a worker to start."""

    def run(service: Service, *options: str, start_s: float = PATIENCE_S) -> Result:
        with monkeypatch.context() as patched:
            patched.setattr(worker_orders, "WORKER_S", start_s)
            return scrip("rebuild", *options, **service.urls)

    return run


async def _recovery(service: Service) -> dict[str, Any]:
    newest = "SELECT kind, reason, total, done FROM recoveries WHERE partition = $1 ORDER BY epoch DESC LIMIT 1"
    (row,) = await service.fetch(newest, service.partition)
    return dict(row)


async def test_everything_is_built_again(patient: Service, rebuild: Callable[..., Result]) -> None:
    """The rebuild records what Redis alone holds first; then everything is as before, and a deleted key is back."""
    code, wrong, user = new_code(), new_code(), new_id()
    book = patient.book(code, wrong, maxRedemptionsPerCode=2)
    made = ok(patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": user}), 201)
    before = patient.stats(book)
    with patient.redis() as client:
        (record,) = client.keys(f"*:c:{code}")
        client.delete(record)
    ended = succeeded(rebuild(patient))
    assert f"Partition {patient.partition} is open again" in ended.output
    recovery = await _recovery(patient)
    assert (recovery["kind"], recovery["reason"], recovery["done"]) == (
        "whole",
        "an operator ordered it",
        recovery["total"],
    )
    until(lambda: patient.checkout.get(f"/v1/coupons/{code}").is_success)
    assert patient.stats(book) == before
    last = ok(patient.checkout.get(f"/v1/coupons/{code}"))["lastRedemption"]
    assert last["redemptionId"] == made["redemptionId"]
    assert await patient.fetch("SELECT 1 FROM rebuild_orders") == []


async def test_a_gap_needs_a_choice(patient: Service, rebuild: Callable[..., Result]) -> None:
    """Where an answered event was lost, a rebuild needs a choice: `--apply` blocks its code, records later events."""
    codes = [new_code() for _ in range(3)]
    book = patient.book(*codes)
    with patient.run.asleep("worker"), patient.redis() as client:
        for code in codes:
            ok(patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": new_id()}), 201)
        entries = client.xrevrange(key_names.outbox(patient.partition), count=6)
        (lost,) = [entry for entry, fields in entries if f" {codes[1]} " in fields["e"]]
        client.xdel(key_names.outbox(patient.partition), lost)
    until(lambda: patient.checkout.post("/v1/coupons/assign", json={"bookId": book, "userId": "u"}).status_code == 503)

    refusal = rebuild(patient, start_s=6)
    assert (refusal.exit_code, "scrip recover" in refusal.output) == (1, True)
    (plan,) = json.loads(succeeded(scrip("recover", "--json", **patient.urls)).output)
    assert plan["blocked_codes"] == [{"workspace": "demo", "code": mask(codes[1])}]
    applied = succeeded(scrip("recover", "--apply", **patient.urls)).output
    assert f"{mask(codes[1])} of workspace demo\n" in applied
    until(lambda: patient.checkout.get(f"/v1/coupons/{codes[0]}").is_success)
    seen = [ok(patient.checkout.get(f"/v1/coupons/{code}"))["status"] for code in codes]
    assert seen == ["redeemed", "inactive", "redeemed"]
    (kept,) = await patient.fetch("SELECT d FROM quarantine")
    assert codes[1].encode() in kept["d"]
    assert (await _recovery(patient))["kind"] == "whole"
    await patient.fetch("DELETE FROM quarantine")
    succeeded(rebuild(patient))  # other tests compare the stores


async def test_without_a_worker(patient: Service, rebuild: Callable[..., Result]) -> None:
    """Without a worker the command says so; the order stays until it is cancelled."""
    with patient.run.asleep("worker"):
        await patient.fetch("DELETE FROM processes WHERE kind = 'worker'")
        ended = rebuild(patient, start_s=1)
        assert ended.exit_code == 1
        assert "Start one" in ended.output
        assert len(await patient.fetch("SELECT 1 FROM rebuild_orders")) == patient.partitions
        succeeded(rebuild(patient, "--cancel"))
        assert await patient.fetch("SELECT 1 FROM rebuild_orders") == []
        refusal = rebuild(patient, "--partition", str(patient.partitions))
        assert refusal.exit_code == 2
        assert f"unknown_partition: there is no partition {patient.partitions}." in refusal.output
    until(lambda: patient.checkout.get("/v1/users/nobody").is_success)


def test_without_a_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Without DATABASE_URL the command names it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert "DATABASE_URL is not set" in scrip("rebuild").output


async def test_the_last_redis_may_still_answer(patient: Service, rebuild: Callable[..., Result]) -> None:
    """If no node of the last committee reports this server, the partition waits until an operator says Redis is off."""
    last = Nonce("0" * 32, "cluster", "d" * 40, node="a", committee=("a", "b", "c"))
    async with database(patient.run.facts["databaseUrl"]) as connection:
        await connection.execute("UPDATE partitions SET opened_nonce = $2 WHERE id = $1", patient.partition, str(last))
        await order_rebuild(connection, patient.partition, "a test ordered it")
        waiting = {"partition": patient.partition, "reason": "waiting_for_old_redis"}
        until(lambda: waiting in patient.manage.get("/health/ready").json()["partitions"])
        waits = "SELECT extract(epoch FROM waits_until - clock_timestamp())::float8 FROM partitions WHERE id = $1"
        waits_s: Any = await connection.fetchval(waits, patient.partition)
    assert CUT_OFF_S / 2 < waits_s <= CUT_OFF_S
    succeeded(rebuild(patient, "--old-redis-is-off"))
