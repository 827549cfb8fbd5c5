"""API keys: rotation, the bound on their number, and the demo's fixed keys."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from service.common.child_processes import StartError
from service.common.config import Settings
from service.engine.domain.errors import Refusal
from service.server.access import keyring
from service.server.embedded import demo_data
from service.server.embedded.exposure import check_host, check_keys
from service.server.in_postgres import key_rows
from service.server.in_postgres.workspace_rows import create_workspace
from tests.harness.service_fixture import Service, database, new_id, ok, refused, without_postgres
from tests.harness.serving import Served
from tests.harness.waiting import until


def _make(service: Service, **fields: Any) -> dict[str, Any]:
    return ok(service.operate.post("/v1/keys", json={"name": "turns", "scopes": ["manage"]} | fields), 201)


def _rotate(service: Service, key: dict[str, Any]) -> dict[str, Any]:
    return ok(service.operate.post(f"/v1/keys/{key['keyId']}/rotate", json={}), 201)


def _works(service: Service, key: dict[str, Any]) -> bool:
    answer = service.client(key["secret"]).get("/v1/books?limit=1")
    assert answer.status_code in {200, 401}
    return answer.status_code == 200


async def test_keys_that_postgres_has_not_confirmed(
    patient: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has not reached Postgres for MAX_AGE_S is not ready and accepts no key, by the fast lane or by
    Litestar; once Postgres replies, it accepts them again."""
    monkeypatch.setattr(keyring, "MAX_AGE_S", 10.0)
    code = patient.coupon(maxRedemptionsPerCode=None)
    with Served(patient, tmp_path) as served, served.client("Bearer demo_admin") as client:

        def ask() -> tuple[httpx.Response, httpx.Response]:
            lock = client.post(f"/v1/coupons/lock/{code}", json={"userId": new_id()})
            return lock, client.get(f"/v1/coupons/{code}")

        def served_to(key: str) -> httpx.Response:
            return client.get("/v1/books", headers={"Authorization": f"Bearer {key}"})

        def are(status: int) -> bool:
            return all(answer.status_code == status for answer in ask())

        def state() -> tuple[int, list[str], list[dict[str, Any]]]:
            response = client.get("/health/ready")
            return response.status_code, response.json()["failing"], response.json()["partitions"]

        assert [answer.status_code for answer in ask()] == [201, 200]
        async with without_postgres(patient):
            assert state() == (200, ["postgres"], [])
            until(lambda: are(503))
            for answer in ask():
                refused(answer, 503, "keys_outdated")
            refused(served_to("unknown"), 503, "keys_outdated")
            outdated = [{"partition": one, "reason": "keys_outdated"} for one in range(patient.partitions)]
            assert state() == (503, ["postgres", *(f"partition {one}" for one in range(patient.partitions))], outdated)
        until(lambda: [answer.status_code for answer in ask()] == [201, 200])
        assert state() == (200, [], [])


def test_two_keys_are_good_while_clients_change_over(service: Service) -> None:
    """A rotated key has the old one's name, scopes and expiry; both keys work during the overlap, and never a third."""
    first = _make(service, expiresAt="2036-01-01T00:00:00Z")
    second = _rotate(service, first)
    assert second["secret"] != first["secret"]
    assert [second[name] for name in ("name", "scopes", "expiresAt")] == ["turns", ["manage"], first["expiresAt"]]
    assert (_works(service, first), _works(service, second)) == (True, True)
    listed = {key["keyId"]: key for key in ok(service.operate.get("/v1/keys", params={"limit": 1000}))["items"]}
    assert "2026" < listed[first["keyId"]]["expiresAt"] < first["expiresAt"]
    refused(service.operate.post(f"/v1/keys/{first['keyId']}/rotate", json={}), 422, "invalid", "keyId")
    third = _rotate(service, second)
    assert [_works(service, key) for key in (first, second, third)] == [False, True, True]


def test_a_rotation_without_overlap(service: Service) -> None:
    """Without an overlap the old key is rejected once the new one is returned; a repeat under the Idempotency-Key makes
    no other key, and returns no secret."""
    first, headers = _make(service), {"Idempotency-Key": new_id("turn")}
    path = f"/v1/keys/{first['keyId']}/rotate"
    second = ok(service.operate.post(path, json={"overlapSeconds": 0}, headers=headers), 201)
    assert (_works(service, first), _works(service, second)) == (False, True)
    again = service.operate.post(path, json={"overlapSeconds": 0}, headers=headers)
    assert ok(again, 201) == second | {"secret": None}
    refused(service.operate.post(path, json={}), 404, "not_found")


async def test_a_workspace_has_so_many_keys(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace at the bound gets no other key until one is revoked."""
    monkeypatch.setattr(key_rows, "MAX_KEYS", 2)
    async with pool.acquire() as connection:
        one, other = [(await create_workspace(connection, name)).workspace for name in ("one", "other")]

        async def make(workspace: int) -> key_rows.KeyRow:
            return await key_rows.create_key(connection, workspace, "k", ["public"], key_rows.generate_secret("live"))

        made = [await make(one), await make(one)]
        await make(other)
        with pytest.raises(Refusal, match="invalid"):
            await make(one)
        assert await key_rows.revoke_key(connection, one, made[0].key_id)
        assert not await key_rows.revoke_key(connection, other, made[1].key_id)
        await make(one)


async def test_fixed_keys_are_for_this_machine(database_url: str) -> None:
    """On any address but loopback nothing starts while the database has a live demo key."""
    others = [Settings(host=host, database_url=database_url) for host in ("0.0.0.0", "::", "192.0.2.1", "shop.example")]
    for settings in others:
        with pytest.raises(StartError, match=r"SCRIP_HOST=127\.0\.0\.1"):
            check_host(settings)
        await check_keys(settings)
    await demo_data.seed(database_url)
    for settings in others:
        with pytest.raises(StartError, match="scrip keys revoke demo"):
            await check_keys(settings)
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        check_host(Settings(host=host))
        await check_keys(Settings(host=host, database_url=database_url))
    async with database(database_url) as connection:
        for caller in (await key_rows.read_callers(connection)).values():
            assert caller.key_id
            await key_rows.revoke_key(connection, caller.workspace, caller.key_id)
    await check_keys(others[0])


def _run(command: str, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "service", command]
    return subprocess.run(words, check=False, env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("command", "processes"), [("api", "1"), ("api", "2"), ("run", "1")])
def test_it_refuses_to_start(service: Service, command: str, processes: str) -> None:
    """A process on a public address with the demo's keys in its database ends with one line that says what to do."""
    env = os.environ | service.urls | {
        "SCRIP_HOST": "0.0.0.0", "SCRIP_PORT": "9", "SCRIP_API_PROCESSES": processes,
        "SCRIP_DATA_DIR": f"{service.run.data_dir}-{new_id()}",
    }  # fmt: skip
    ended = _run(command, env)
    assert ended.returncode == 2
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("Error: ")]
    assert "scrip keys revoke demo" in line
    assert "Traceback" not in ended.stderr
    without = {name: value for name, value in env.items() if name not in {"REDIS_URL", "DATABASE_URL"}}
    if command == "run":
        ended = _run("run", without)
        assert ended.returncode == 2
        assert "Error: SCRIP_HOST is 0.0.0.0" in ended.stderr
        assert "DATABASE_URL" in ended.stderr
