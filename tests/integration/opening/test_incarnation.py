"""A restored Postgres takes no configuration before Redis was compared with it."""

from service.engine.formats import key_names
from tests.harness.commands import scrip
from tests.harness.service_fixture import Service, new_code, ok
from tests.harness.waiting import until


async def test_changes_that_a_restored_postgres_lost(patient: Service) -> None:
    """If the restored Postgres lost an acknowledged change, the partition stays closed and says so. Once an operator
    accepts the loss, Redis drops the change, though a later one has its version again."""
    code, other = new_code(), new_code()
    book, second = patient.book(code), patient.book(other)
    mine = patient.partition
    (before,) = await patient.fetch("SELECT version FROM config_versions WHERE partition = $1", mine)
    rows = await patient.fetch("SELECT book, version FROM books WHERE book_id = $1", book)
    ok(patient.manage.patch(f"/v1/books/{book}", json={"status": "inactive"}))
    refused = patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "ann"})
    assert refused.json()["code"] == "book_inactive"
    with patient.redis() as client:
        client.set(key_names.config(mine), before["version"])
    await patient.fetch("UPDATE config_versions SET version = $1 WHERE partition = $2", before["version"], mine)
    await patient.fetch("UPDATE books SET status = 'active', version = $1 WHERE book_id = $2", rows[0]["version"], book)
    await patient.fetch("VACUUM FULL config_versions")  # changes the incarnation, as a restart of Postgres does
    until(lambda: _reason(patient) == "postgres_older")
    refused = patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "ann"})
    assert (refused.status_code, refused.json()["code"]) == (503, "recovering")
    assert "it lacks 1 configuration change" in scrip("partitions", **patient.urls).output
    assert "Bring the newer Postgres back" in scrip("doctor", **patient.urls).output
    failing = ok(patient.operate.get("/v1/ops/consistency"))["failing"]
    assert [(one["task"], one["reason"]) for one in failing] == [("opening", "PostgresOlder")]

    await patient.fetch("INSERT INTO rebuild_orders (partition, surplus) VALUES ($1, 'discard')", mine)
    until(lambda: patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "ann"}).is_success)
    until(lambda: ok(patient.operate.get("/v1/ops/consistency"))["state"] == "open")
    until(lambda: patient.manage.patch(f"/v1/books/{second}", json={"status": "inactive"}).is_success)
    refused = patient.checkout.post(f"/v1/coupons/redeem/{other}", json={"userId": "ann"})
    assert refused.json()["code"] == "book_inactive"


def _reason(service: Service) -> str | None:
    """Why the service's partition is not served."""
    partitions = service.checkout.get("/health/ready").json()["partitions"]
    return next((one["reason"] for one in partitions if one["partition"] == service.partition), None)
