"""A workspace reaches its bound of storage: what is refused, who sees it, and how it ends."""

from service.server.in_postgres.workspace_rows import change_storage_bound
from tests.harness.service_fixture import Service, database, new_code, new_id, ok, refused
from tests.harness.waiting import until

CODES = 27_000
"""Of 40 bytes: a little more than 1 MiB, and less than the reserve."""


async def _bound(own: Service, mib: int) -> None:
    async with database(own.run.facts["databaseUrl"]) as connection:
        await change_storage_bound(connection, own.number, mib)


async def test_a_workspace_at_its_bound(service: Service) -> None:
    """The worker counts a workspace's codes, and then all that adds something is refused with use and bound, but
    redemptions and what gives back. Once the operator has raised the bound everything goes on."""
    own = service.make_workspace(new_id("bounded"), "live")
    code, held = new_code(), new_code()
    book = own.book(code, held)
    token = ok(own.checkout.post(f"/v1/coupons/lock/{held}", json={"userId": "ann"}), 201)["lockToken"]
    assert ok(own.operate.get("/v1/workspace"))["storageMib"] == 4096
    await _bound(own, 1)
    codes = "\n".join(f"FILL-{number:06d}" for number in range(CODES))
    path, text = f"/v1/books/{book}/codes", {"Content-Type": "text/plain"}
    assert ok(own.manage.post(path, content=codes, headers=text))["added"] == CODES
    until(lambda: ok(own.operate.get("/v1/workspace"))["storageUsedMib"] == 1)
    for client, method, adding, body in (
        (own.manage, "POST", "/v1/books", {"name": "more"}),
        (own.manage, "POST", path, {"codes": ["MORE-1"]}),
        (own.manage, "POST", f"{path}/generate", {"count": 1}),
        (own.manage, "POST", "/v1/users", {"userId": "bob"}),
        (
            own.manage,
            "POST",
            "/v1/coupons/user-specific",
            {"userId": "bob", "discountType": "fixed", "discountValue": 1},
        ),
        (own.checkout, "POST", "/v1/coupons/assign", {"userId": "bob", "bookId": book}),
        (own.checkout, "POST", "/v1/coupons/lock/FILL-000001", {"userId": "bob"}),
    ):
        problem = refused(client.request(method, adding, json=body), 409, "storage_full")
        assert (problem["storageUsedMib"], problem["storageMib"]) == (1, 1)
    redeemed = ok(own.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "ann"}), 201)
    assert own.checkout.post(f"/v1/coupons/unlock/{held}", json={"lockToken": token}).status_code == 204
    ok(own.manage.post(f"/v1/redemptions/{redeemed['redemptionId']}/rollback", json={}))
    await _bound(own, 64)
    until(lambda: own.checkout.post("/v1/coupons/lock/FILL-000001", json={"userId": "bob"}).status_code == 201)
    ok(own.manage.post("/v1/books", json={"name": "more"}), 201)


async def test_a_workspace_that_fills_with_items(service: Service) -> None:
    """What locks hold of their orders' items counts: some 100 orders of a thousand lines fill 1 MiB."""
    own = service.make_workspace(new_id("bounded"), "live")
    codes = [new_code() for _ in range(111)]
    own.book(*codes)
    await _bound(own, 1)
    lines = [{"sku": f"sku-{n}", "quantity": 1, "unitPrice": 1} for n in range(1000)]

    def lock() -> int:
        order = {"userId": "ann", "orderValue": 1000, "items": lines}
        return own.checkout.post(f"/v1/coupons/lock/{codes.pop()}", json=order).status_code

    assert {lock() for _ in range(90)} == {201}
    assert {lock() for _ in range(20)} <= {201, 409}
    until(lambda: ok(own.operate.get("/v1/workspace"))["storageUsedMib"] == 1)
    assert lock() == 409
