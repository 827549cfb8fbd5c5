"""API keys: changed over one by one, bounded, listed and revoked on the command line; the fixed ones for us alone."""

import asyncio
import os
import subprocess
import sys
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner

from service.cli import admin
from service.common.child_processes import StartError
from service.common.config import Settings
from service.domain.errors import Refusal
from service.embedded import demo
from service.embedded.exposure import check_host, check_keys
from service.record.config import key_rows
from service.record.config.workspace_rows import create_workspace
from service.record.partitions.partition_rows import ensure_partitions
from tests.service_fixture import Service, new_id, ok, refused


def _make(service: Service, **said: Any) -> dict[str, Any]:
    return ok(service.operate.post("/v1/keys", json={"name": "turns", "scopes": ["manage"]} | said), 201)


def _rotate(service: Service, key: dict[str, Any], **said: Any) -> dict[str, Any]:
    return ok(service.operate.post(f"/v1/keys/{key['keyId']}/rotate", json=said), 201)


def _works(service: Service, key: dict[str, Any]) -> bool:
    answer = service.client(key["secret"]).get("/v1/books?limit=1")
    assert answer.status_code in {200, 401}
    return answer.status_code == 200


def test_two_keys_are_good_while_clients_change_over(service: Service) -> None:
    """The new key has the old one's name, scopes and end; both work meanwhile, and never a third."""
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


def test_a_key_that_is_known_to_others(service: Service) -> None:
    """Without an overlap the old key is good for nothing once the new one is shown."""
    first = _make(service)
    second = _rotate(service, first, overlapSeconds=0)
    assert (_works(service, first), _works(service, second)) == (False, True)
    refused(service.operate.post(f"/v1/keys/{first['keyId']}/rotate", json={}), 404, "not_found")


def test_a_rotation_is_done_once(service: Service) -> None:
    """Repeated under its Idempotency-Key it makes no other key, and shows no secret again."""
    key = _make(service)
    headers = {"Idempotency-Key": new_id("turn")}
    path = f"/v1/keys/{key['keyId']}/rotate"
    made = ok(service.operate.post(path, json={}, headers=headers), 201)
    assert ok(service.operate.post(path, json={}, headers=headers), 201) == made | {"secret": None}


async def test_a_workspace_has_so_many_keys(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than the bound is refused; one that was revoked or has ended leaves its place."""
    monkeypatch.setattr(key_rows, "MAX_KEYS", 2)
    connection = await asyncpg.connect(database_url)
    try:
        await ensure_partitions(connection, 1)
        one, other = [(await create_workspace(connection, name)).workspace for name in ("one", "other")]
        made = [
            await key_rows.create_key(connection, one, "k", ["public"], key_rows.generate_secret("live"))
            for _ in range(2)
        ]
        await key_rows.create_key(connection, other, "k", ["public"], key_rows.generate_secret("live"))
        with pytest.raises(Refusal, match="invalid"):
            await key_rows.create_key(connection, one, "k", ["public"], key_rows.generate_secret("live"))
        assert await key_rows.revoke_key(connection, one, made[0].key_id)
        assert not await key_rows.revoke_key(connection, other, made[1].key_id)
        await key_rows.create_key(connection, one, "k", ["public"], key_rows.generate_secret("live"))
    finally:
        await connection.close()


async def test_commands(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are listed without their secrets and revoked by their ids, in their own workspace alone."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    runner = CliRunner()

    async def run(*words: str, group: Any = admin.keys) -> str:
        return (await asyncio.to_thread(runner.invoke, group, words)).output

    for name in ("shop", "other"):
        await run("create", name, group=admin.workspaces)
    assert [line.split("\t")[:2] for line in (await run("list", group=admin.workspaces)).splitlines()] == [
        ["other", "live"],
        ["shop", "live"],
    ]
    secret = (await run("create", "shop", "till", "--scope", "checkout")).strip()
    (line,) = (await run("list", "shop")).splitlines()
    key_id, prefix, scopes, used, name = line.split("\t")
    assert (prefix, scopes, used, name) == (f"{secret[:16]}…", "checkout", "never", "till")
    assert secret not in line
    assert await run("revoke", "other", key_id) == "Error: other has no such key.\n"
    assert await run("revoke", "shop", key_id) == "Revoked.\n"
    assert await run("list", "shop") == "\n"
    assert await run("list", "nowhere") == "Error: There is no workspace nowhere.\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "shop.example"])
async def test_fixed_keys_are_for_this_machine(database_url: str, host: str) -> None:
    """Bound to anything but loopback, nothing starts with the demo's keys, whichever process made them."""
    others = Settings(host=host, database_url=database_url)
    with pytest.raises(StartError, match=r"SCRIP_HOST=127\.0\.0\.1"):
        check_host(others)
    await check_keys(others)
    await demo.seed(database_url)
    with pytest.raises(StartError, match="scrip keys revoke demo"):
        await check_keys(others)
    for own in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        check_host(Settings(host=own))
        await check_keys(Settings(host=own, database_url=database_url))
    connection = await asyncpg.connect(database_url)
    try:
        for _, caller in sorted((await key_rows.read_callers(connection))[1].items()):
            assert caller.key_id
            await key_rows.revoke_key(connection, caller.workspace, caller.key_id)
    finally:
        await connection.close()
    await check_keys(others)


def _run(command: str, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "service", command]
    return subprocess.run(words, check=False, env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("command", ["api", "run"])
@pytest.mark.parametrize("processes", ["1", "2"])
def test_it_refuses_to_start(service: Service, command: str, processes: str) -> None:
    """A process that would serve others from a database with the demo's keys says what to do, in one line."""
    facts = service.run.facts
    env = os.environ | {
        "REDIS_URL": facts["redisUrl"], "DATABASE_URL": facts["databaseUrl"], "SCRIP_HOST": "0.0.0.0",
        "SCRIP_PORT": "9", "SCRIP_API_PROCESSES": processes, "SCRIP_DATA_DIR": f"{service.run.data_dir}-{new_id()}",
    }  # fmt: skip
    told = _run(command, env)
    assert told.returncode == 1
    (line,) = [line for line in told.stderr.splitlines() if line.startswith("Error: ")]
    assert "scrip keys revoke demo" in line
    assert "Traceback" not in told.stderr
    without = {name: value for name, value in env.items() if name not in {"REDIS_URL", "DATABASE_URL"}}
    if command == "run":
        told = _run("run", without)
        assert told.returncode == 1
        assert "Error: SCRIP_HOST is 0.0.0.0" in told.stderr
        assert "DATABASE_URL" in told.stderr
