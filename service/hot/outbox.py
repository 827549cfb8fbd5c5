"""One partition's outbox, as the worker reads and trims it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis

from service.formats import key_names
from service.hot.connection import Broken, Connection, connect

Fields = Sequence[bytes]
"""Of an entry: names and values by turns."""
Read = Sequence[tuple[bytes, Fields]]
"""Entries with their ids, as Redis answers them."""
ERRORS = (OSError, Broken, hiredis.ReplyError)
"""What any call may raise: no connection, one that broke, one that Redis refused something on."""
_PASSING = frozenset("LOADING MASTERDOWN READONLY CLUSTERDOWN TRYAGAIN BUSY UNBLOCKED".split())
"""Kinds of errors of a server that is not there yet, or no longer."""


def is_away(error: BaseException) -> bool:
    """Whether the error says that Redis can't be reached or used just now, not that a command was wrong."""
    if isinstance(error, hiredis.ReplyError):
        return str(error).partition(" ")[0] in _PASSING
    return isinstance(error, OSError | Broken)


class Outbox:
    """On a connection of its own, made where there is none, for one who asks one thing at a time. Nothing is repeated:
    the call in which the connection breaks raises, and the next makes another. Ids are bytes."""

    def __init__(self, redis_url: str, partition: int) -> None:
        self._url, self._key = redis_url, key_names.outbox(partition)
        self._connection: Connection | None = None

    async def entries(self, first: bytes, count: int) -> Read:
        """So many entries from an id on."""
        return await self._ask("XRANGE", self._key, first, "+", "COUNT", count)

    async def has_more(self, after: bytes, wait_ms: int) -> bool:
        """Whether there is an entry after an id, or one comes in time."""
        return bool(await self._ask("XREAD", "COUNT", 1, "BLOCK", wait_ms, "STREAMS", self._key, after))

    async def last(self) -> bytes | None:
        """The id of the last entry; None where there is none."""
        found = await self._ask("XREVRANGE", self._key, "+", "-", "COUNT", 1)
        return found[0][0] if found else None

    async def trim(self, first: bytes, *, exactly: bool) -> None:
        """Drop what comes before an id, or about that."""
        await self._ask("XTRIM", self._key, "MINID", "=" if exactly else "~", first)

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None

    async def _ask(self, *command: Any) -> Any:
        if self._connection is None or self._connection.lost:
            self._connection = await connect(self._url, "scrip-outbox", encoding=None)
        try:
            reply = await self._connection.call(*command)
        except asyncio.CancelledError:  # what it asked for may still be on its way, and what comes next must not wait
            self.close()
            raise
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply
