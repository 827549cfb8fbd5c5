"""How many bytes of answers a workspace keeps under Idempotency-Keys."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from service.hot.connection import Broken
from service.hot.workspace_state import Workspace
from tests.integration.opening_fixtures import Place
from tests.service_fixture import Service, new_code, new_id, ok, refused


def test_a_request_is_refused_before_it_acts(
    own_service: Callable[[], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`key_quota` with Retry-After: nothing is made, without a key it is; repeats are answered, and so is whatever the
    hot path decides under keys, and another workspace."""
    monkeypatch.setenv("SCRIP_KEPT_BYTES", str(1 << 20))
    service = own_service()

    def make(name: str) -> Any:
        body = {"name": name, "description": uuid4().hex * 60, "metadata": {"x": uuid4().hex * 120}}
        return service.manage.post("/v1/books", json=body, headers={"Idempotency-Key": name})

    first = ok(service.manage.post("/v1/books", json={"name": "one"}, headers={"Idempotency-Key": "one"}), 201)
    with service.redis() as client:
        (name,) = client.scan_iter("*:i:one")
        kept = name.replace("i:one", "y")
        (hour,) = client.hkeys(kept)
        assert int(client.hget(kept, hour)) == len(client.get(name))
        client.hincrby(kept, hour, 1 << 20)  # as many answers as it takes
    before = service.digest()
    problem = make("refused")
    refused(problem, 429, "key_quota")
    assert 0 < int(problem.headers["Retry-After"]) <= 25 * 3600
    assert service.digest() == before
    batch = {"operations": [{"op": "lock", "code": new_code(), "userId": "u"}]}
    refused(service.checkout.post("/v1/batch", json=batch, headers={"Idempotency-Key": "b"}), 429, "key_quota")
    again = service.manage.post("/v1/books", json={"name": "one"}, headers={"Idempotency-Key": "one"})
    assert (ok(again, 201), again.headers["Idempotency-Replayed"]) == (first, "true")
    ok(service.manage.post("/v1/books", json={"name": "two"}), 201)
    locked = {"userId": new_id()}
    code = service.coupon()
    ok(service.checkout.post(f"/v1/coupons/lock/{code}", json=locked, headers={"Idempotency-Key": "hot"}), 201)
    ok(service.rival_manage.post("/v1/books", json={"name": "x"}, headers={"Idempotency-Key": "one"}), 201)


async def test_what_is_restored_counts(place: Place) -> None:
    """A rebuilt Redis counts what it did; and one that lost its end, once, wherever the worker that mends it dies."""
    workspace, w = Workspace(place.decider), place.caller.prefix

    async def keep(some: range) -> None:
        for n in some:
            assert await workspace.claim(place.caller, f"k{n}", "f") is None
            await workspace.settle(place.caller, f"k{n}", "f", 200, b"x" * 100 * n, "")
        await place.record()

    async def counted() -> int:
        found: Any = await place.redis.hgetall(f"{w}y")
        return sum(map(int, found.values()))

    async def mended(dies_after: int = -1) -> bool:
        try:
            await place.open(dies_after)
        except Broken:
            return False
        await place.learn()
        return True

    await keep(range(3))
    half_way = await place.snapshot()
    await keep(range(3, 6))
    kept: list[Any] = [await place.redis.strlen(f"{w}i:k{n}") for n in range(6)]
    assert await counted() == sum(kept)
    died = 0
    while True:
        await place.put_back(half_way)
        done = await mended(died)
        assert done or await mended()
        assert await counted() == sum(kept)
        if done:
            break
        died += 1
    assert died > 10
    await place.redis.flushall()
    assert await mended()
    assert await counted() == sum(kept)
