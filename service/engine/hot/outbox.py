"""The worker's access to one partition's outbox: write_behind.py reads and trims it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis

from service.engine.formats import key_names
from service.engine.hot.connection import Broken, Connection, connect
from service.engine.hot.decider import REDIRECTIONS, kind_of

Fields = Sequence[bytes]
"""An entry's names and values in turn."""
Read = Sequence[tuple[bytes, Fields]]
"""Entries with their ids."""
ERRORS = (OSError, Broken, hiredis.ReplyError)
"""The errors of all calls: no connection, a broken connection, a refused command."""
_PASSING = REDIRECTIONS | frozenset("LOADING MASTERDOWN READONLY BUSY UNBLOCKED".split())
"""Errors of a server that is starting, stopping or busy, or whose slot moves."""


def is_away(error: BaseException) -> bool:
    """Whether the error means that Redis is temporarily unavailable."""
    if isinstance(error, hiredis.ReplyError):
        return kind_of(error) in _PASSING
    return isinstance(error, OSError | Broken)


def is_redirected(error: BaseException) -> bool:
    """Whether a cluster's node refused a command because it does not have the slot, or not now."""
    return isinstance(error, hiredis.ReplyError) and kind_of(error) in REDIRECTIONS


def has_moved(error: BaseException) -> bool:
    """Whether another node of the cluster has the slot."""
    return isinstance(error, hiredis.ReplyError) and kind_of(error) == "MOVED"


class Outbox:
    """Sends one command at a time on its own connection. Ids are bytes.

    If the connection breaks, or leads to a node that doesn't have the slot, the current call raises, and the next call
    connects again.
    """

    def __init__(self, redis_url: str, partition: int) -> None:
        self._url, self._partition, self._key = redis_url, partition, key_names.outbox(partition)
        self._connection: Connection | None = None

    async def entries(self, first: bytes, count: int) -> Read:
        """At most `count` entries from an id on."""
        return await self._ask("XRANGE", self._key, first, "+", "COUNT", count)

    async def has_more(self, after: bytes, wait_ms: int) -> bool:
        """Wait at most `wait_ms` for an entry after an id."""
        return bool(await self._ask("XREAD", "COUNT", 1, "BLOCK", wait_ms, "STREAMS", self._key, after))

    async def last(self) -> bytes | None:
        """The id of the last entry, if any."""
        entries = await self._ask("XREVRANGE", self._key, "+", "-", "COUNT", 1)
        return entries[0][0] if entries else None

    async def trim(self, first: bytes, *, exactly: bool) -> None:
        """Remove the entries before an id; unless `exactly`, Redis may leave some."""
        await self._ask("XTRIM", self._key, "MINID", "=" if exactly else "~", first)

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    async def _ask(self, *command: Any) -> Any:
        if self._connection is None or self._connection.lost:
            self._connection = await connect(self._url, "scrip-outbox", encoding=None, partition=self._partition)
        try:
            reply = await self._connection.call(*command)
        except asyncio.CancelledError:  # the next call must not wait for this reply
            self.close()
            raise
        if isinstance(reply, hiredis.ReplyError):
            if is_redirected(reply):
                self.close()
            raise reply
        return reply
