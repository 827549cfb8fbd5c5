"""Which Redis servers may decide."""

from typing import Any

import hiredis
import pytest

from service.hot.fitness import check_server

_GOOD = {
    "server": "redis_version:7.2.4",
    "replication": "role:master\r\nconnected_slaves:1",
    "memory": "used_memory:9\r\nmaxmemory:100\r\nmaxmemory_policy:noeviction",
    "stats": "evicted_keys:0",
}
_SYNCS = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}


def _saying(info: dict[str, Any], settings: Any) -> Any:
    """A server that says this of itself."""

    async def call(*command: str) -> Any:
        if command[0] == "INFO":
            return info[command[1]]
        return settings if isinstance(settings, Exception) else [word for item in settings.items() for word in item]

    return call


@pytest.mark.parametrize(
    ("section", "said", "reason"),
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
async def test_what_may_not_decide(section: str, said: str, reason: str) -> None:
    """A server that is too old, a replica, or that may evict is unfit; without a limit of memory nothing is evicted."""
    found = await check_server(_saying(_GOOD | {section: said}, _SYNCS))
    assert reason in (found.unfit or "")
    assert bool(found.unfit) == bool(reason)


@pytest.mark.parametrize(
    ("setting", "value", "fsynced", "unfit"),
    [
        ("appendfsync", "always", True, False),
        ("appendfsync", "everysec", False, False),
        ("appendonly", "no", False, False),
        ("no-appendfsync-on-rewrite", "yes", False, True),
    ],
)
async def test_what_is_on_disk(setting: str, value: str, fsynced: bool, unfit: bool) -> None:
    """Only a server that syncs before each answer is `fsynced`; one that stops syncing while it rewrites is unfit."""
    found = await check_server(_saying(_GOOD, _SYNCS | {setting: value}))
    assert (found.fsynced, found.unfit is not None) == (fsynced, unfit)


async def test_settings_that_are_hidden() -> None:
    """A server that doesn't let its settings be read is used, and promises no more than `accepted`."""
    found = await check_server(_saying(_GOOD, hiredis.ReplyError("NOPERM no permission")))
    assert (found.unfit, found.fsynced, found.hidden) == (None, False, ("CONFIG GET *append*",))
