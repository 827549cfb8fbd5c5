"""Servers that may lose or forget data decide nothing, from the first connection on and while they run."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from service.engine.formats import key_names
from service.engine.hot import link as link_module
from service.engine.hot.link import Link
from tests.harness.servers import VALKEY, started
from tests.harness.service_fixture import Service, new_code, ok, refused
from tests.harness.waiting import PATIENCE_S, until, wait_until
from tests.integration.opening.test_connection import echo, serving


async def test_a_server_that_becomes_unfit(tmp_path: Path) -> None:
    """The connection of a server that becomes a replica closes once its requests are answered, until it leads again."""
    with started(VALKEY, tmp_path) as url, redis.Redis.from_url(url) as client:
        link, replies, sent = Link(url, "tests"), list[Any](), 0
        await link.start()
        client.replicaof("127.0.0.1", "1")
        async with asyncio.timeout(PATIENCE_S):
            while link.connected:
                if link.waiting < 100:  # a link refuses more than MAX_WAITING
                    link.send(replies.append, ("ECHO", "x"))
                    sent += 1
                await asyncio.sleep(0)
        await wait_until(lambda: len(replies) == sent)
        assert set(replies) == {"x"}
        client.replicaof("NO", "ONE")
        await wait_until(lambda: link.connected)
        await link.stop()


async def test_an_error_that_no_one_expects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the check of a connection in use fails in an unknown way, the connection is closed, and another is opened."""
    with started(VALKEY, tmp_path) as url, redis.Redis.from_url(url) as client:
        monkeypatch.setattr(link_module, "ASK_S", 0.01)
        link = Link(url, "tests")
        await link.start()
        monkeypatch.setattr(link_module, "check_server", None)
        await wait_until(lambda: not link.connected)
        monkeypatch.undo()
        await wait_until(lambda: link.connected)
        await wait_until(lambda: len([one for one in client.client_list() if one["name"] == "tests"]) == 1)
        await link.stop()


async def test_a_user_that_may_not_read_settings(tmp_path: Path) -> None:
    """A server that allows neither INFO nor CONFIG is used, and its answers are `accepted`, not `fsynced`."""
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with started(VALKEY, tmp_path, *options) as url, redis.Redis.from_url(url) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-info", "-config")
        for name, fsynced in (("", True), ("app:secret@", False)):
            link = Link(url.replace("://", f"://{name}"), "tests")
            await link.start()
            assert (link.connected, link.fsynced) == (True, fsynced)
            await link.stop()


async def test_an_unfit_server_never_gets_a_request() -> None:
    """A new connection to an unfit server sends only PING."""
    async with serving(echo, b"redis_version:6.0.1") as server:
        link = Link(server.url, "tests")
        await link.start()
        assert not link.connected
        assert {command[0] for command in server.commands} == {"PING"}
        await link.stop()


@pytest.fixture
def shop(patient: Service) -> Iterator[tuple[Service, Any, list[str]]]:
    """A service whose servers a test may break, its Redis, whose settings are put back, and codes, the first ann's."""
    codes = [new_code() for _ in range(200)]
    patient.book(*codes)
    ok(patient.checkout.post(f"/v1/coupons/assign/{codes[0]}", json={"userId": "ann"}), 201)
    with patient.redis() as client:
        before = client.config_get("maxmemory", "maxmemory-policy", "appendfsync", "no-appendfsync-on-rewrite")
        yield patient, client, codes
        for name, value in before.items():
            client.config_set(name, value)


def _refused(answer: httpx.Response) -> bool:
    if answer.status_code == 503:
        assert answer.json()["code"] in ("unavailable", "recovering")
    return answer.status_code == 503


def _read(service: Service, code: str) -> httpx.Response:
    return service.checkout.get(f"/v1/coupons/{code}")


def test_a_service_on_a_redis_that_may_evict(shop: tuple[Service, Any, list[str]]) -> None:
    """While Redis may evict keys, the gate is closed and requests get 503; they work again once the policy is back."""
    service, client, codes = shop
    before = ok(_read(service, codes[0]))
    client.config_set("maxmemory", "0")
    client.config_set("maxmemory-policy", "allkeys-lru")
    assert not _refused(_read(service, codes[0]))  # without a limit nothing is evicted
    client.config_set("maxmemory", "1gb")
    until(lambda: _refused(_read(service, codes[0])))
    until(lambda: client.get(key_names.gate(service.partition)).endswith(" closed"))
    client.config_set("maxmemory-policy", "noeviction")
    until(service.run.ready)
    assert ok(_read(service, codes[0])) == before


@pytest.mark.parametrize("policy", ["volatile-random", "allkeys-random"])
def test_what_was_evicted_comes_back(shop: tuple[Service, Any, list[str]], policy: str) -> None:
    """After an eviction Redis is rebuilt whole, even if only idempotency keys went, which leaves but a count."""
    service, client, codes = shop
    before = [ok(_read(service, code)) for code in codes[:20]]
    asked = {"json": {"bookId": before[0]["bookId"], "userId": "bob"}, "headers": {"Idempotency-Key": new_code()}}
    first = service.checkout.post("/v1/coupons/assign", **asked)
    service.recorded()
    epoch = client.get(key_names.gate(service.partition)).split()[0]
    client.config_set("maxmemory-policy", policy)
    client.config_set("maxmemory", "1")
    until(lambda: client.info("stats")["evicted_keys"])
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "0")
    until(lambda: (client.get(key_names.gate(service.partition)) or f"{epoch} ").split()[0] != epoch)
    until(service.run.ready)
    again = service.checkout.post("/v1/coupons/assign", **asked)
    assert (again.status_code, again.content) == (201, first.content)
    taken = ok(first, 201)["code"]
    assert [ok(_read(service, code)) for code in codes[:20] if code != taken] == [
        coupon for coupon in before if coupon["code"] != taken
    ]


def test_a_redis_that_syncs_less(shop: tuple[Service, Any, list[str]]) -> None:
    """Responses are `accepted` while Redis syncs each second, `fsynced` again later; a Redis that does not sync during
    a rewrite of its file is not used."""
    service, client, codes = shop
    unassigned = iter(codes[1:])

    def is_answered(durability: str) -> bool:
        answer = service.checkout.post(f"/v1/coupons/assign/{next(unassigned)}", json={"userId": "ann"})
        return answer.status_code == 201 and answer.json()["durability"] == durability

    assert is_answered("fsynced")
    client.config_set("appendfsync", "everysec")
    until(lambda: is_answered("accepted"))
    client.config_set("appendfsync", "always")
    until(lambda: is_answered("fsynced"))
    client.config_set("no-appendfsync-on-rewrite", "yes")
    until(lambda: _refused(_read(service, codes[0])))
    client.config_set("no-appendfsync-on-rewrite", "no")
    until(service.run.ready)


async def test_a_postgres_that_becomes_unfit(shop: tuple[Service, Any, list[str]]) -> None:
    """An unfit Postgres is not used: requests get `unavailable`, no process ends, until the setting is corrected."""
    service, _, codes = shop
    pids = service.run.pids

    async def set_to(value: str) -> None:
        await service.fetch(f"ALTER SYSTEM SET full_page_writes = {value}")
        await service.fetch("SELECT pg_reload_conf()")
        until_set = "SELECT FROM pg_settings WHERE name = 'full_page_writes' AND setting = $1"
        await wait_until(lambda: service.fetch(until_set, value))
        ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'scrip-%'"
        await service.fetch(ours)

    await set_to("off")
    until(lambda: service.manage.get("/v1/books").status_code == 503)
    refused(service.manage.get("/v1/books"), 503, "unavailable")
    await set_to("on")
    until(lambda: service.manage.get("/v1/books").status_code == 200)
    until(service.run.ready)
    ok(service.checkout.post(f"/v1/coupons/redeem/{codes[0]}", json={"userId": "ann"},
                             headers={"Prefer": "durability=recorded"}), 201)  # fmt: skip
    assert service.run.pids == pids
