"""Check whether a Redis server is fit to decide: its settings must not lose or evict decisions. link.py
asks each second, workers before an opening and while they watch; doctor and the console show the result."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any

import hiredis
import msgspec
import structlog

MIN_VERSION = (7, 0)
"""The first Redis with `<epoch>-*` as an id for XADD. Every Valkey has it, and reports Redis 7.2."""
_ASKED = (
    ("INFO", "server"),
    ("INFO", "replication", "memory", "stats", "cluster", "persistence"),
    ("CONFIG", "GET", "*append*", "hash-max-listpack-value"),
)
ENTRY_BYTES = 64
"""The server's default."""
_WRITES = ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")

Call = Callable[..., Awaitable[Any]]
"""Runs a command; returns hiredis's errors as replies."""

log = structlog.get_logger()


class UnfitRedis(Exception):
    """The server may lose decisions; the message states what to change."""


class Replication(msgspec.Struct, frozen=True, kw_only=True):
    """`INFO replication` of a server. Hidden values are '' or 0."""

    history: str
    """The id of its data (`master_replid`)."""
    former: str
    """Of a server that was promoted, the id that it and its primary had; else ''."""
    count: int
    """The number of replicas."""
    is_clustered: bool
    """Whether it is a cluster's node."""

    @property
    def is_followed(self) -> bool:
        """Whether `history` may change at run time: it has replicas, was one, or is a cluster's node."""
        return self.count > 0 or self.former != "" or self.is_clustered


class Fitness(msgspec.Struct, frozen=True, kw_only=True):
    """A server's state at one moment. Hidden values are '' or 0."""

    server: str
    """Name and version."""
    unfit: str | None
    """Why it is unfit to decide, and what to change; None if it is fit."""
    fsynced: bool
    """Whether it syncs to disk before it replies, as its settings say."""
    shows_settings: bool
    """Whether it shows the settings of its append-only file."""
    replication: Replication
    used_bytes: int
    max_bytes: int
    """0 for no limit."""
    evicted: int
    """Keys evicted since its start."""
    writes_fail: bool
    """Whether its last write, rewrite or snapshot to disk failed."""
    clock_us: int
    """Its clock, in µs since 1970."""
    run_id: str
    entry_bytes: int
    """The longest entry that leaves a hash compact (`hash-max-listpack-value`): a longer one makes the hash large for
    good. The default where the setting is hidden."""
    may_be_torn: bool
    """Whether its append-only file may have half a transaction after a crash, as in Redis 7.0 but not Valkey 9."""
    hidden: tuple[str, ...]
    """The commands that it refused."""

    def is_fsynced(self, declared: str | None) -> bool:
        """Whether its replies are `fsynced`; a declaration counts only for what it hides."""
        return self.fsynced or (declared is not None and not self.shows_settings)

    def has_log(self, declared: str | None) -> bool:
        """Whether it commits to a log that one server alone owns; declared as in is_fsynced."""
        return declared == "log" and not self.shows_settings


async def check_server(call: Call) -> Fitness:
    """Check a server in one round trip. Raises Broken."""
    replies = await asyncio.gather(*(call(*command) for command in _ASKED))
    *infos, append = replies
    info: dict[str, str] = {}
    for text in infos:
        info |= read_info(text)
    settings = dict(zip(append[::2], append[1::2], strict=True)) if isinstance(append, list) else {}
    hidden = tuple(
        " ".join(command)
        for command, reply in zip(_ASKED, replies, strict=True)
        if isinstance(reply, hiredis.ReplyError)
    )
    if hidden:
        _warn_hidden(hidden)
    valkey = info.get("valkey_version")
    return Fitness(
        server=f"Valkey {valkey}" if valkey else f"Redis {info.get('redis_version', '?')}",
        unfit=_unfit(info, settings),
        fsynced=settings.get("appendonly") == "yes"
        and settings.get("appendfsync") == "always"
        and settings.get("no-appendfsync-on-rewrite") == "no",
        shows_settings="appendonly" in settings,
        replication=_read_replication(info),
        used_bytes=int(info.get("used_memory", 0)),
        max_bytes=int(info.get("maxmemory", 0)),
        evicted=int(info.get("evicted_keys", 0)),
        writes_fail=any(info.get(name, "ok") != "ok" for name in _WRITES),
        clock_us=int(info.get("server_time_usec", 0)),
        run_id=info.get("run_id", ""),
        entry_bytes=int(settings.get("hash-max-listpack-value", ENTRY_BYTES)),
        may_be_torn=settings.get("appendonly") == "yes" and int(info.get("valkey_version", "0").split(".")[0]) < 9,
        hidden=hidden,
    )


async def ask_replication(call: Call) -> Replication:
    """Fetch only `replication` of Fitness. Raises Broken."""
    return _read_replication(read_info(await call("INFO", "replication", "cluster")))


class Pulse(msgspec.Struct, frozen=True):
    """What one command shows of a server: enough to notice that it must be checked."""

    replication: Replication
    unfit: str | None
    """As in Fitness, without the settings of its append-only file."""
    evicted: int
    keys: int
    scripts: int


async def ask_pulse(call: Call) -> Pulse:
    """Raises Broken."""
    info = read_info(await call("INFO", "replication", "cluster", "memory", "stats", "keyspace"))
    databases = [re.match(r"keys=(\d+)", text) for name, text in info.items() if re.fullmatch(r"db\d+", name)]
    return Pulse(
        replication=_read_replication(info),
        unfit=_unfit(info, {}),
        evicted=int(info.get("evicted_keys", 0)),
        keys=sum(int(match[1]) for match in databases if match),
        scripts=int(info.get("number_of_cached_scripts", 0)),
    )


def read_info(reply: Any) -> dict[str, str]:
    """The lines of an INFO reply; {} for an error."""
    lines = reply.splitlines() if isinstance(reply, str) else ()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _read_replication(info: Mapping[str, str]) -> Replication:
    former = info.get("master_replid2", "")
    return Replication(
        history=info.get("master_replid", ""),
        former=former if former.strip("0") else "",
        count=int(info.get("connected_slaves", 0)),
        is_clustered=info.get("cluster_enabled") == "1",
    )


def _unfit(info: Mapping[str, str], settings: Mapping[str, str]) -> str | None:
    version = info.get("redis_version", "")
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and tuple(map(int, numbers.groups())) < MIN_VERSION:
        return f"Redis {version} is too old: 7.0 or newer is needed, or any Valkey."
    if info.get("role", "master") != "master":
        return "This Redis is a replica, and holds what another decides: name the primary in REDIS_URL."
    if info.get("maxmemory", "0") != "0" and info.get("maxmemory_policy") != "noeviction":
        return "Redis may evict coupons: set maxmemory-policy to noeviction."
    if settings.get("appendonly") == "yes" and settings.get("no-appendfsync-on-rewrite") == "yes":
        return "Redis doesn't sync while it rewrites its file: set no-appendfsync-on-rewrite to no."
    return None


@cache
def _warn_hidden(commands: tuple[str, ...]) -> None:
    """Log a warning, once per process."""
    log.warning("redis_settings_hidden", commands=commands)
