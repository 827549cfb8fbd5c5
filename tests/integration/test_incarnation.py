"""A restored Postgres takes no configuration before Redis was compared with it."""

from service.formats import key_names
from tests.service_fixture import Service, new_code, ok
from tests.waiting import until


def _is_open(service: Service) -> bool:
    return ok(service.operate.get("/v1/ops/consistency"))["state"] == "open"


async def test_changes_that_a_restored_postgres_lost(patient: Service) -> None:
    """Redis drops an acknowledged change that the restored Postgres lost, though a later one has its version again."""
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
    until(lambda: patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "ann"}).is_success)
    until(lambda: _is_open(patient))
    recoveries = await patient.fetch("SELECT reason FROM recoveries WHERE partition = $1 ORDER BY epoch", mine)
    assert recoveries[-1]["reason"] == "Postgres is older"
    until(lambda: patient.manage.patch(f"/v1/books/{second}", json={"status": "inactive"}).is_success)
    refused = patient.checkout.post(f"/v1/coupons/redeem/{other}", json={"userId": "ann"})
    assert refused.json()["code"] == "book_inactive"
