"""Ask the committees of a cluster who has each slot: then decisions need no Postgres (decision 0054). wiring.py
runs it, and decider.py takes the confirmations."""

import asyncio
import time
from functools import partial

import structlog

from service.common.background_tasks import run_forever
from service.common.redis_address import Host, parse_redis_address
from service.engine.hot.decider import Decider
from service.engine.hot.discovery import CONNECT_S, open_client, read_report, read_slots

POLL_S = 0.4
"""A confirmation counts for the time of more than three questions (FRESH_S["cluster"] of fencing.py): change both."""
PAUSE_S = 0.5
"""Before a new connection to a node."""

log = structlog.get_logger()


class CommitteePoll:
    """Asks each node every POLL_S, while it is of the committee of some epoch. Nodes do not wait for each other.

    It has a connection of its own to each, because they may have no slots.
    """

    def __init__(self, redis_url: str, decider: Decider) -> None:
        self._address, self._decider = parse_redis_address(redis_url), decider
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._places: dict[str, Host] = {}
        """Where each node listens, by the newest report."""

    async def run(self) -> None:
        try:
            while True:
                self._follow(self._decider.committee)
                await asyncio.sleep(POLL_S)
        finally:
            self._follow(frozenset())

    def _follow(self, committee: frozenset[str]) -> None:
        for left in self._asking.keys() - committee:
            self._asking.pop(left).cancel()
        for new in committee - self._asking.keys():
            self._asking[new] = asyncio.create_task(run_forever("committee", partial(self._keep_asking, new)))

    async def _keep_asking(self, node: str) -> None:
        while True:
            try:
                if node not in self._places:
                    self._places |= (await read_slots(self._address)).places
                if host := self._places.get(node):
                    await self._ask(node, host)
            except OSError as error:
                if node in self._places:
                    log.warning("node_not_asked", node=node, error=type(error.__cause__ or error).__name__)
            self._places.pop(node, None)
            await asyncio.sleep(PAUSE_S)

    async def _ask(self, node: str, host: Host) -> None:
        """Ask until another node has the address. Raises OSError."""
        async with open_client(self._address, host, "scrip-api") as client:
            while True:
                sent_at = time.monotonic()
                async with asyncio.timeout(CONNECT_S):
                    report = await read_report(client, self._address, host)
                if report.reporter != node:
                    return
                self._decider.confirm_slots(sent_at, report)
                await asyncio.sleep(sent_at + POLL_S - time.monotonic())
