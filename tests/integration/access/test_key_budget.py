"""The limit on the bytes of answers that a workspace stores under Idempotency-Keys."""

from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.engine.formats import key_names
from service.engine.hot.connection import Broken
from service.engine.worker import script_versions
from service.server.in_redis.workspace_state import Workspace
from service.serving import wiring
from tests.harness.service_fixture import Service, new_id, ok, refused
from tests.harness.serving import Served
from tests.harness.waiting import until
from tests.integration.opening.opening_fixtures import PartitionSetup


def test_a_request_is_refused_before_it_acts(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the workspace's stored answers at their bound, a request with a new key gets `key_quota` and changes
    nothing; requests without a key, repeats, and hot requests with a key are answered."""
    own = service.make_workspace(new_id("budget"), "live")
    monkeypatch.setattr(wiring, "Workspace", partial(Workspace, most_kept_bytes=1 << 20))

    def post(path: str, key: str, **body: Any) -> httpx.Response:
        return client.post(path, json=body, headers={"Idempotency-Key": key} if key else {})

    with Served(service, tmp_path) as served, served.client(f"Bearer {own.workspace}_admin") as client:
        until(lambda: client.get("/v1/users/nobody").is_success)
        one = new_id("one")
        first = ok(post("/v1/books", one, name="one"), 201)
        with service.redis() as redis:
            entry, stored = key_names.answer(own.prefix, one), key_names.kept_bytes(own.prefix)
            (hour,) = redis.hkeys(stored)
            assert int(redis.hget(stored, hour)) == len(redis.get(entry))
            redis.hincrby(stored, hour, 1 << 20)
        code = own.coupon()
        before = own.held()
        problem = post("/v1/books", "refused", name="refused")
        refused(problem, 429, "key_quota")
        assert 0 < int(problem.headers["Retry-After"]) <= 25 * 3600
        operations = [{"op": "lock", "code": code, "userId": "u"}]
        refused(post("/v1/batch", "b", operations=operations), 429, "key_quota")
        again = post("/v1/books", one, name="one")
        assert (ok(again, 201), again.headers["Idempotency-Replayed"]) == (first, "true")
        assert own.held() == before
        ok(post("/v1/books", "", name="two"), 201)
        ok(post(f"/v1/coupons/lock/{code}", "hot", userId="u"), 201)


async def test_restored_answers_count(setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebuilt Redis counts the same bytes; so does one that lost its last events, wherever the worker ends."""
    workspace, w = Workspace(setup.decider), setup.caller.prefix

    async def keep(some: range) -> None:
        for n in some:
            assert await workspace.claim_key(setup.caller, f"k{n}", "f") is None
            await workspace.store_answer(setup.caller, f"k{n}", "f", 200, b"x" * 100 * n, "")
        await setup.record()

    async def counted() -> int:
        hours: Any = await setup.redis.hgetall(f"{w}y")
        return sum(int(count) for hour, count in hours.items() if hour.isdigit())  # without those of the hot path

    async def opens(dies_after: int = -1) -> bool:
        try:
            await setup.open(dies_after)
        except Broken:
            return False
        return True

    await keep(range(3))
    half_way = await setup.snapshot()
    await keep(range(3, 6))
    kept: list[Any] = [await setup.redis.strlen(f"{w}i:k{n}") for n in range(6)]
    assert await counted() == sum(kept)
    monkeypatch.setattr(script_versions, "SERVING", script_versions.SERVING[:1])  # fewer commands to end before
    dies_after, is_done = 0, False
    while not is_done:
        await setup.put_back(half_way)
        is_done = await opens(dies_after)
        assert is_done or await opens()
        assert await counted() == sum(kept)
        dies_after += 1
    assert dies_after > 10
    await setup.redis.flushall()
    assert await opens()
    assert await counted() == sum(kept)
