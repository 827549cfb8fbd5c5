"""Whether a Redis server may decide: what it says of itself, and what of that would lose or forget its answers."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any

import hiredis
import msgspec
import structlog

MIN_VERSION = (7, 0)
"""The first Redis with `<epoch>-*` as an id for XADD; every Valkey has it, and says that it is as good as Redis 7.2."""
_ASKED = (
    ("INFO", "server"),
    ("INFO", "replication"),
    ("INFO", "memory"),
    ("INFO", "stats"),
    ("CONFIG", "GET", "*append*"),
)

Call = Callable[..., Awaitable[Any]]
"""A command's reply; hiredis's errors come as replies do."""

log = structlog.get_logger()


class UnfitRedis(Exception):
    """This server may lose or forget what it answered; the message says what to change."""


class Fitness(msgspec.Struct, frozen=True, kw_only=True):
    """A server at one moment. What it would not say is '' or 0, and named in `hidden`."""

    server: str
    """Name and version."""
    unfit: str | None
    """Why it may not decide, and what to change; None where it may."""
    fsynced: bool
    """Whether what it answers is on its disk."""
    history: str
    """What tells its data from another's (`master_replid`)."""
    followed: bool
    """Whether that may change while it runs: there are replicas, or it was one."""
    replicas: int
    used_bytes: int
    max_bytes: int
    """0 for no limit."""
    evicted: int
    """Keys that it evicted since it started."""
    run_id: str
    """What tells this run of the server from others."""
    may_be_torn: bool
    """Whether its append-only file may keep half a transaction after a crash: Redis 7.0 was seen to, Valkey 9 not."""
    hidden: tuple[str, ...]
    """The commands that it refused."""


async def check_server(call: Call) -> Fitness:
    """Ask a server, in one turn, whether it is fit. Raises Broken."""
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
        _say_hidden(hidden)
    return Fitness(
        server=f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {_version(info) or '?'}",
        unfit=_unfit(info, settings),
        fsynced=settings.get("appendonly") == "yes"
        and settings.get("appendfsync") == "always"
        and settings.get("no-appendfsync-on-rewrite") == "no",
        history=info.get("master_replid", ""),
        followed=_is_followed(info),
        replicas=int(info.get("connected_slaves", 0)),
        used_bytes=int(info.get("used_memory", 0)),
        max_bytes=int(info.get("maxmemory", 0)),
        evicted=int(info.get("evicted_keys", 0)),
        run_id=info.get("run_id", ""),
        may_be_torn=settings.get("appendonly") == "yes" and int(info.get("valkey_version", "0").split(".")[0]) < 9,
        hidden=hidden,
    )


async def ask_history(call: Call) -> tuple[str, bool]:
    """Fitness's `history` and `followed` alone. Raises Broken."""
    info = read_info(await call("INFO", "replication"))
    return info.get("master_replid", ""), _is_followed(info)


def read_info(reply: Any) -> dict[str, str]:
    """Its lines; nothing where the server would not say."""
    lines = reply.splitlines() if isinstance(reply, str) else ()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _is_followed(info: Mapping[str, str]) -> bool:
    return info.get("connected_slaves", "0") != "0" or info.get("master_replid2", "").strip("0") != ""


def _unfit(info: Mapping[str, str], settings: Mapping[str, str]) -> str | None:
    version = _version(info)
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


def _version(info: Mapping[str, str]) -> str:
    return info.get("redis_version", "")


@cache
def _say_hidden(commands: tuple[str, ...]) -> None:
    """Once in a process: nobody has to see that each second."""
    log.warning("redis_settings_hidden", commands=commands)
