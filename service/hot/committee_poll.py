"""Asking the committees of a cluster who has each slot: then decisions need no Postgres (docs/decisions/0054)."""

import asyncio
import time
from functools import partial
from typing import Any

import structlog

from service.common.redis_address import Host, parse_redis_address
from service.hot.cluster import parse_report
from service.hot.connection import Broken, Connection, connect, read_slots
from service.hot.decider import Decider

POLL_S = 0.4
"""A confirmation counts for the time of three questions (FRESH_S in service/hot/fencing.py)."""
PAUSE_S = 0.5
"""Before a new connection to a node."""

log = structlog.get_logger()


class CommitteePoll:
    """Asks each node every POLL_S, while it is of the committee of some epoch. Nodes do not wait for each other.

    It has a connection of its own to each, because they may have no slots. A connection without replies closes itself.
    """

    def __init__(self, redis_url: str, decider: Decider) -> None:
        self._address, self._decider = parse_redis_address(redis_url), decider
        self._connections: dict[str, Connection] = {}
        self._connecting: dict[str, asyncio.Task[None]] = {}
        self._places: dict[str, Host] = {}
        """Where each node listens, by the newest report."""

    async def run(self) -> None:
        try:
            while True:
                self._ask(self._decider.committee)
                await asyncio.sleep(POLL_S)
        finally:
            self._ask(frozenset())

    def _ask(self, committee: frozenset[str]) -> None:
        for left in self._connections.keys() - committee:
            self._connections.pop(left).close()
        for left in self._connecting.keys() - committee:
            self._connecting.pop(left).cancel()
        for node in committee:
            connection = self._connections.get(node)
            if connection and not connection.lost:
                on_reply = partial(self._take, node, time.monotonic(), connection)
                connection.send(on_reply, ("CLUSTER", "NODES"))
            elif node not in self._connecting:
                self._connecting[node] = asyncio.create_task(self._connect(node))

    async def _connect(self, node: str) -> None:
        try:
            if node not in self._places:
                self._places |= (await read_slots(self._address)).places
            if host := self._places.get(node):
                self._connections[node] = await connect(self._address.at(host), "scrip-api")
        except (OSError, Broken) as error:
            if self._places.pop(node, None):
                log.warning("node_not_asked", node=node, error=type(error).__name__)
            await asyncio.sleep(PAUSE_S)
        finally:
            if self._connecting.get(node) is asyncio.current_task():
                del self._connecting[node]

    def _take(self, node: str, sent_at: float, connection: Connection, reply: Any) -> None:
        if isinstance(reply, Broken) or connection.host is None:
            return
        for report in parse_report(connection.is_tls, connection.host, reply):
            if report.reporter != node:  # another one has its address
                self._places.pop(node, None)
                connection.close()
            else:
                self._decider.confirm_slots(sent_at, report)
