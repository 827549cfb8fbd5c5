"""A Postgres that was started, or restored, takes no configuration before Redis was compared with it."""

from collections.abc import Callable

from tests.service_fixture import Service, new_code, new_id, ok, until


def _is_open(service: Service) -> bool:
    return ok(service.operate.get("/v1/ops/consistency"))["state"] == "open"


async def _start_anew(service: Service) -> None:
    """As a restart of Postgres looks to those who ask which it is."""
    await service.fetch("VACUUM FULL config_versions")


async def test_a_started_postgres_is_compared_first(own_service: Callable[[], Service]) -> None:
    """Until then changes are refused as recovering, and the hot path goes on under the same epoch."""
    service = own_service()
    code = new_code()
    book = service.book(code)
    epoch = service.redis().get("{p0}:gate")
    await _start_anew(service)
    refused = service.manage.patch(f"/v1/books/{book}", json={"name": "Other"})
    assert (refused.status_code, refused.json()["code"]) == (503, "recovering")
    assert int(refused.headers["Retry-After"]) >= 1
    ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": new_id()}), 201)
    until(lambda: service.manage.patch(f"/v1/books/{book}", json={"name": "Other"}).is_success)
    assert service.redis().get("{p0}:gate") == epoch


async def test_what_a_restored_postgres_lost_is_lost_in_redis(own_service: Callable[[], Service]) -> None:
    """A change that was acknowledged and that the restored Postgres doesn't know governs no more, though a later one
    has its number again; nor does one of which Redis never said that all of it is there."""
    service = own_service()
    code, other = new_code(), new_code()
    book, second = service.book(code), service.book(other)
    (before,) = await service.fetch("SELECT version FROM config_versions")
    rows = await service.fetch("SELECT book, version FROM books WHERE book_id = $1", book)
    ok(service.manage.patch(f"/v1/books/{book}", json={"status": "inactive"}))
    refused = service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "ann"})
    assert refused.json()["code"] == "book_inactive"
    with service.redis() as client:
        client.set("{p0}:config", before["version"])
    await service.fetch("UPDATE config_versions SET version = $1", before["version"])
    await service.fetch("UPDATE books SET status = 'active', version = $1 WHERE book_id = $2", rows[0]["version"], book)
    await _start_anew(service)
    until(lambda: service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "ann"}).is_success)
    until(lambda: _is_open(service))
    assert [row["reason"] for row in await service.fetch("SELECT reason FROM recoveries")][-1] == "Postgres is older"
    until(lambda: service.manage.patch(f"/v1/books/{second}", json={"status": "inactive"}).is_success)
    refused = service.checkout.post(f"/v1/coupons/redeem/{other}", json={"userId": "ann"})
    assert refused.json()["code"] == "book_inactive"
