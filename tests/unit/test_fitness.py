"""Which Redis servers may decide."""

from typing import Any

import hiredis
import pytest

from service.engine.hot.fitness import check_server

_GOOD = {
    "server": "redis_version:7.2.4",
    "replication": "role:master\r\nconnected_slaves:1",
    "memory": "used_memory:9\r\nmaxmemory:100\r\nmaxmemory_policy:noeviction",
    "stats": "evicted_keys:0",
}
_SYNCS = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}


def _make_server(info: dict[str, Any], settings: Any) -> Any:
    async def call(*command: str) -> Any:
        if command[0] == "INFO":
            return "\r\n".join(info.get(section, "") for section in command[1:])
        return settings if isinstance(settings, Exception) else [text for item in settings.items() for text in item]

    return call


@pytest.mark.parametrize(
    ("section", "info", "reason"),
    [
        ("server", "redis_version:7.0.0", ""),
        ("server", "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2", ""),
        ("server", "redis_version:6.2.14", "Redis 6.2.14 is too old"),
        ("server", "redis_version:10.0.0", ""),
        ("replication", "role:slave\r\nconnected_slaves:0", "is a replica"),
        ("memory", "maxmemory:100\r\nmaxmemory_policy:allkeys-lru", "may evict"),
        ("memory", "maxmemory:100\r\nmaxmemory_policy:volatile-ttl", "may evict"),
        ("memory", "maxmemory:0\r\nmaxmemory_policy:allkeys-lru", ""),
    ],
)
async def test_unfit_servers(section: str, info: str, reason: str) -> None:
    """A server that is too old, a replica, or that may evict is unfit; without a memory limit it evicts nothing."""
    fitness = await check_server(_make_server(_GOOD | {section: info}, _SYNCS))
    assert reason in (fitness.unfit or "")
    assert bool(fitness.unfit) == bool(reason)


@pytest.mark.parametrize(
    ("setting", "value", "fsynced", "unfit"),
    [
        ("appendfsync", "always", True, False),
        ("appendfsync", "everysec", False, False),
        ("appendonly", "no", False, False),
        ("no-appendfsync-on-rewrite", "yes", False, True),
    ],
)
async def test_fsynced_servers(setting: str, value: str, fsynced: bool, unfit: bool) -> None:
    """A server that syncs before each answer is `fsynced`; one that stops syncing during a rewrite is unfit."""
    fitness = await check_server(_make_server(_GOOD, _SYNCS | {setting: value}))
    assert (fitness.fsynced, fitness.unfit is not None) == (fsynced, unfit)


async def test_the_longest_entry_of_a_compact_hash() -> None:
    """A server shows how long an entry may be that leaves its hash compact."""
    assert (await check_server(_make_server(_GOOD, _SYNCS | {"hash-max-listpack-value": "256"}))).entry_bytes == 256


async def test_settings_that_are_hidden() -> None:
    """A server that hides its settings is used, and promises only `accepted`."""
    fitness = await check_server(_make_server(_GOOD, hiredis.ReplyError("NOPERM no permission")))
    assert (fitness.unfit, fitness.fsynced, fitness.hidden) == (
        None,
        False,
        ("CONFIG GET *append* hash-max-listpack-value",),
    )
    assert fitness.entry_bytes == 64


@pytest.mark.parametrize(
    ("settings", "declared", "fsynced"),
    [
        (hiredis.ReplyError("NOPERM no permission"), "always", True),
        (hiredis.ReplyError("ERR unknown command 'CONFIG'"), "log", True),
        ({}, "log", True),
        (hiredis.ReplyError("NOPERM no permission"), None, False),
        (_SYNCS | {"appendfsync": "everysec"}, "always", False),
        (_SYNCS, None, True),
    ],
    ids=["hidden", "no such command", "left out", "not declared", "shown otherwise", "shown"],
)
async def test_what_is_declared_counts_only_for_what_is_hidden(
    settings: Any, declared: str | None, fsynced: bool
) -> None:
    """SCRIP_REDIS_DURABILITY makes replies `fsynced` only if the server hides its settings."""
    fitness = await check_server(_make_server(_GOOD, settings))
    assert fitness.is_fsynced(declared) == fsynced


@pytest.mark.parametrize("name", ["aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status"])
async def test_writes_that_fail(name: str) -> None:
    """A server shows whether its last write to disk failed, and its clock, which some hide."""
    fitness = await check_server(_make_server(_GOOD | {"server": f"{_GOOD['server']}\r\nserver_time_usec:17"}, _SYNCS))
    assert (fitness.writes_fail, fitness.clock_us) == (False, 17)
    failing = await check_server(_make_server(_GOOD | {"persistence": f"{name}:err"}, _SYNCS))
    assert (failing.writes_fail, failing.clock_us) == (True, 0)
