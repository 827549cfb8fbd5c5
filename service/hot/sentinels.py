"""Finding a primary by asking sentinels, and the asking of several hosts at once."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import hiredis

from service.common.redis_address import Host, RedisAddress

ASK_S = 0.5
"""Time for the hosts to reply."""

Ask = Callable[[Host], Awaitable[Any]]
"""Sends a host the question, and returns its reply. Raises OSError or Broken."""


class PrimaryUnknown(OSError):
    """No sentinel names the primary."""


T = TypeVar("T")


async def find_primary(address: RedisAddress, ask: Ask) -> Host:
    """The primary of the newest configuration that a majority of the sentinels report: a failover needs a majority, so
    one of them has seen it. Raises PrimaryUnknown."""
    known = await ask_majority(address.hosts, ask, _read_reply)
    if not known:
        raise PrimaryUnknown(f"no sentinel of {address} names its primary")
    return max(known)[1]


async def ask_majority(hosts: Sequence[Host], ask: Ask, read: Callable[[Host, Any], list[T]]) -> list[T]:
    """Ask all hosts at once, and return what is read from the replies of a majority; with fewer replies after ASK_S,
    from those. A host that fails, or whose reply can't be read, has not replied."""

    async def ask_one(host: Host) -> list[T]:
        return read(host, await ask(host))

    asking = [asyncio.ensure_future(ask_one(host)) for host in hosts]
    known: list[T] = []
    replied = 0
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASK_S):
                for one in asyncio.as_completed(asking):
                    with contextlib.suppress(Exception):  # that host is away
                        known += (some := await one)
                        replied += bool(some)
                    if 2 * replied > len(asking):
                        break
    finally:
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return known


def _read_reply(_: Host, reply: Any) -> list[tuple[int, Host]]:
    """The configuration's epoch and the primary; nothing if the sentinel doesn't know the service."""
    if isinstance(reply, hiredis.ReplyError):
        return []
    fields: Mapping[str, str] = dict(zip(reply[::2], reply[1::2], strict=True))
    return [(int(fields["config-epoch"]), Host(fields["ip"], int(fields["port"])))]
