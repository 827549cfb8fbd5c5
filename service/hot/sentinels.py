"""Finding a primary by asking sentinels."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import hiredis

from service.common.redis_address import Host, RedisAddress

ASK_S = 0.5
"""Time for the sentinels to reply."""

Ask = Callable[[Host], Awaitable[Any]]
"""Sends a sentinel `SENTINEL MASTER <service>` and returns its reply. Raises OSError or Broken."""


class PrimaryUnknown(OSError):
    """No sentinel names the primary."""


async def find_primary(address: RedisAddress, ask: Ask) -> Host:
    """Ask all sentinels at once, and return the primary of the newest configuration that they report.

    A majority's replies are enough: a failover needs a majority, so one of them has seen it. With fewer replies after
    ASK_S, the newest of those counts. Raises PrimaryUnknown.
    """
    asking = [asyncio.ensure_future(ask(host)) for host in address.hosts]
    known: list[tuple[int, Host]] = []
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASK_S):
                for replied in asyncio.as_completed(asking):
                    with contextlib.suppress(Exception):  # that sentinel is away
                        known += _read_reply(await replied)
                    if 2 * len(known) > len(asking):
                        break
    finally:
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    if not known:
        raise PrimaryUnknown(f"no sentinel of {address} names its primary")
    return max(known)[1]


def _read_reply(reply: Any) -> list[tuple[int, Host]]:
    """The configuration's epoch and the primary; nothing if the sentinel doesn't know the service."""
    if isinstance(reply, hiredis.ReplyError):
        return []
    fields: Mapping[str, str] = dict(zip(reply[::2], reply[1::2], strict=True))
    return [(int(fields["config-epoch"]), Host(fields["ip"], int(fields["port"])))]
