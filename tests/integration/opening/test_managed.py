"""Managed servers block administrators' commands (tests/harness/restricted.py): everything works without them."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import hiredis
import msgspec
import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from service.common.config import Settings
from service.engine.hot.fitness import Fitness
from service.engine.hot.link import Link
from service.engine.operations import redeem
from service.engine.record.partitions.openings import order_rebuild
from service.server.doctor import checks
from service.server.doctor.report import Check
from tests.harness.reaching import reach
from tests.harness.restricted import VENDORS, vendor_rights
from tests.harness.servers import VALKEY, started
from tests.harness.waiting import wait_until
from tests.integration.opening.opening_fixtures import Dying, PartitionSetup

_SHOWS_SETTINGS = {"oci"}


@pytest_asyncio.fixture(params=sorted(VENDORS))
async def vendor(request: pytest.FixtureRequest) -> str:
    """The vendor whose user the service has."""
    return request.param


@pytest_asyncio.fixture
async def valkey_url(vendor: str, valkey_url: str) -> AsyncIterator[str]:
    """The server's address for that user. Its append-only file begins with an empty server."""
    async with Redis.from_url(valkey_url, decode_responses=True) as admin:

        async def is_rewritten() -> bool:
            info = await admin.info("persistence")
            return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]

        await admin.flushall()
        await wait_until(is_rewritten)
        await admin.bgrewriteaof()
        await wait_until(is_rewritten)
        await admin.acl_setuser(vendor, reset=True)
        await admin.execute_command("ACL", "SETUSER", vendor, "on", ">hunter2", *vendor_rights(vendor))
        yield valkey_url.replace("://", f"://{vendor}:hunter2@")
        await admin.execute_command("ACL", "DELUSER", vendor)


async def _doctor(setup: PartitionSetup, database_url: str) -> dict[str, Check]:
    """The checks by name, where the operator declares a log."""
    settings = Settings(redis_url=setup.valkey_url, database_url=database_url, redis_durability="log")
    return {check.name: check for check in (await checks._examine(settings)).checks}


async def test_the_core_flow(
    vendor: str, setup: PartitionSetup, database_url: str, data_dir: Path, tmp_path: Path
) -> None:
    """Opening, redeeming, recording, rebuilding and the doctor work without what the vendor blocks. A rebuild is in the
    append-only file, though it can't be rewritten. What is declared counts if the settings are hidden."""
    with pytest.raises(NoPermissionError):
        await setup.redis.bgrewriteaof()
    await setup.do(redeem.REDEEM, "CODE-40", "key-40", userId="ann", orderId="o40")
    assert await setup.record() == 1
    before = await setup.everything()
    await order_rebuild(setup.pool, 0, "a test ordered it")
    await setup.reopen()
    assert await setup.recovery() == "whole"
    assert await setup.everything() == before

    _copy_file(data_dir, tmp_path)
    with started(VALKEY, tmp_path, "--appendonly", "yes") as url:
        copy = PartitionSetup(
            setup.pool, Redis.from_url(url), setup.outbox, url, setup.link, setup.decider, setup.caller
        )
        await wait_until(lambda: _is_loaded(copy.redis))
        assert await copy.everything() == before
        await copy.redis.aclose()

    await setup.do(redeem.REDEEM, "CODE-41", userId="ann")
    link = Link(setup.valkey_url, "tests", "log")
    await link.start()
    assert link.fsynced
    await link.stop()
    report = await _doctor(setup, database_url)
    for name in ("redis", "durability", "computed keys", "gate", "scripts", "anchor", "config"):
        assert report[name].state == "ok", report[name]
    assert ("not verified" in report["durability"].says) == (vendor not in _SHOWS_SETTINGS)
    assert "redis settings" in report or vendor in _SHOWS_SETTINGS
    assert "hunter2" not in str(report)


def _copy_file(data_dir: Path, to: Path) -> None:
    shutil.copytree(next(data_dir.rglob("appendonlydir")), to / "appendonlydir")


async def test_a_file_that_may_be_torn_and_cant_be_rewritten(
    setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each opening of a server that may run half a transaction later rebuilds it: what it logs follows that half."""
    before, check = await setup.everything(), Dying.check

    async def check_torn(server: Dying) -> Fitness:
        return msgspec.structs.replace(await check(server), may_be_torn=True)

    await setup.reopen()
    count = "SELECT count(*) FROM recoveries"
    recoveries = await setup.pool.fetchval(count)
    monkeypatch.setattr(Dying, "check", check_torn)
    await setup.reopen()
    assert await setup.pool.fetchval(count) == recoveries + 1
    assert await setup.recovery() == "whole"
    assert await setup.everything() == before


async def _is_loaded(client: Redis) -> bool:
    return not (await client.info("persistence"))["loading"]


class _Answering:
    """A server whose scripts end with one reply."""

    def __init__(self, reply: Any) -> None:
        self._reply = reply

    async def call(self, *command: Any) -> Any:
        assert command[0] == "EVAL"
        return self._reply


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        ("1", "ok"),
        (None, "ok"),
        ("ERR Error running script: script tried accessing undeclared key, key: {p0}:layout", "bad"),
        ("ERR Script attempted to access a key that was not declared", "bad"),
        ("NOPERM User api has no permissions to run the 'eval' command", "warning"),
    ],
    ids=["text", "nothing", "Dragonfly", "another", "no right to try"],
)
async def test_servers_that_forbid_computed_keys(reply: str | None, state: str) -> None:
    """The doctor refuses a server whose scripts may use only declared keys, and quotes the reason."""
    is_error = reply is not None and reply != "1"
    check = await checks.check_computed_keys(_Answering(hiredis.ReplyError(reply) if is_error else reply))  # type: ignore[arg-type]
    assert check.state == state
    assert state != "bad" or (str(reply) in check.says and "ElastiCache Serverless" in check.next)


async def test_a_server_that_is_loading_is_not_refused_for_its_keys() -> None:
    """Other errors are those of a server that can't be examined now."""
    with pytest.raises(hiredis.ReplyError, match="LOADING"):
        await checks.check_computed_keys(_Answering(hiredis.ReplyError("LOADING the dataset")))  # type: ignore[arg-type]


async def test_a_real_server_allows_computed_keys(tmp_path: Path) -> None:
    """The doctor's script runs on Valkey, and leaves nothing."""
    with started(VALKEY, tmp_path) as url:
        connection = await reach(url)
        assert (await checks.check_computed_keys(connection)).state == "ok"
        assert await connection.call("DBSIZE") == 0
        connection.close()
