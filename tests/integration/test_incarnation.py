"""A Postgres that was started, or restored, takes no configuration before Redis was compared with it."""

from tests.service_fixture import Service, new_code, new_id, ok, until


def _is_open(service: Service) -> bool:
    return ok(service.operate.get("/v1/ops/consistency"))["state"] == "open"


async def _start_anew(service: Service) -> None:
    """As a restart of Postgres looks to those who ask which it is."""
    await service.fetch("VACUUM FULL config_versions")


async def test_a_started_postgres_is_compared_first(patient: Service) -> None:
    """Until then changes are refused as recovering, and the hot path goes on under the same epoch."""
    code = new_code()
    book = patient.book(code)
    epoch = patient.redis().get("{p0}:gate")
    await _start_anew(patient)
    refused = patient.manage.patch(f"/v1/books/{book}", json={"name": "Other"})
    assert (refused.status_code, refused.json()["code"]) == (503, "recovering")
    assert int(refused.headers["Retry-After"]) >= 1
    ok(patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": new_id()}), 201)
    until(lambda: patient.manage.patch(f"/v1/books/{book}", json={"name": "Other"}).is_success)
    assert patient.redis().get("{p0}:gate") == epoch


async def test_what_a_restored_postgres_lost_is_lost_in_redis(patient: Service) -> None:
    """A change that was acknowledged and that the restored Postgres doesn't know governs no more, though a later one
    has its number again; nor does one of which Redis never said that all of it is there."""
    code, other = new_code(), new_code()
    book, second = patient.book(code), patient.book(other)
    (before,) = await patient.fetch("SELECT version FROM config_versions")
    rows = await patient.fetch("SELECT book, version FROM books WHERE book_id = $1", book)
    ok(patient.manage.patch(f"/v1/books/{book}", json={"status": "inactive"}))
    refused = patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "ann"})
    assert refused.json()["code"] == "book_inactive"
    with patient.redis() as client:
        client.set("{p0}:config", before["version"])
    await patient.fetch("UPDATE config_versions SET version = $1", before["version"])
    await patient.fetch("UPDATE books SET status = 'active', version = $1 WHERE book_id = $2", rows[0]["version"], book)
    await _start_anew(patient)
    until(lambda: patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "ann"}).is_success)
    until(lambda: _is_open(patient))
    assert [row["reason"] for row in await patient.fetch("SELECT reason FROM recoveries")][-1] == "Postgres is older"
    until(lambda: patient.manage.patch(f"/v1/books/{second}", json={"status": "inactive"}).is_success)
    refused = patient.checkout.post(f"/v1/coupons/redeem/{other}", json={"userId": "ann"})
    assert refused.json()["code"] == "book_inactive"
