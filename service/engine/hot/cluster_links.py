"""Keep an API process's connections to a cluster, one to each primary: wiring.py makes them for decider.py."""

import asyncio
import contextlib

import structlog

from service.common.background_tasks import run_forever
from service.common.redis_address import Host, RedisAddress, parse_redis_address
from service.engine.hot.cluster import SlotMap
from service.engine.hot.connection import ASK_S
from service.engine.hot.discovery import read_slots
from service.engine.hot.link import Link

PAUSE_S = 0.05
"""Between two readings of the slots, however many replies say that they have moved."""
LOST_S = 0.25
"""Between two readings while there is no connection to some primary, whose replica may take its place."""

log = structlog.get_logger()


def make_links(redis_url: str, name: str, declared: str | None = None) -> "Link | ClusterLinks":
    """The link of all partitions, or those of a cluster. Parameters are those of Link."""
    address = parse_redis_address(redis_url)
    return ClusterLinks(address, name, declared) if address.is_cluster else Link(redis_url, name, declared)


class ClusterLinks:
    """A Link to each primary that has slots.

    1. Each second, and when a reply says that a slot has moved, read the slots (cluster.py). Read them four
       times a second while a primary can't be reached.
    2. Start a link to each new primary. Close that of a primary that has no slots any more: what it still decides may
       be lost, so its requests get Broken.
    3. Without a reply, or with no primary for a slot, everything stays as it was.
    """

    def __init__(self, address: RedisAddress, name: str, declared: str | None) -> None:
        self._address, self._name, self._declared = address, name, declared
        self._links: dict[Host, Link] = {}
        self._of: dict[int, Link] = {}
        """By partition, since the slots were read last."""
        self._nowhere = Link(address, name, declared)
        """Never connects: the link of a partition whose primary is unknown."""
        self._slots = SlotMap(())
        self._suspected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to connect, and wait at most a second for all connections."""
        self._task = asyncio.create_task(run_forever("redis_slots", self._keep))
        for _ in range(100):
            if self._links and all(link.connected for link in self._links.values()):
                return
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(link.stop() for link in self._links.values()))

    def of(self, partition: int) -> Link:
        """The link to the primary of a partition."""
        link = self._of.get(partition)
        if link is None:
            host = self._slots.host_of(partition)
            link = self._of[partition] = self._links.get(host, self._nowhere) if host else self._nowhere
        return link

    @property
    def waiting(self) -> int:
        """Requests in flight."""
        return sum(link.waiting for link in self._links.values())

    def syncs(self, partition: int) -> bool:
        """Whether all replies for a partition that may come now are fsynced: a slot may just have left another node."""
        return self.of(partition).fsynced and all(one.fsynced or not one.connected for one in self._links.values())

    def suspect(self) -> None:
        """Read the slots soon: a node has refused a partition."""
        self._suspected.set()

    async def _keep(self) -> None:
        while True:
            try:
                await self._follow(await read_slots(self._address))
            except OSError as error:
                log.warning("slots_unknown", error=type(error).__name__)
            await asyncio.sleep(PAUSE_S)
            with contextlib.suppress(TimeoutError):
                is_lost = not all(link.connected for link in self._links.values())
                async with asyncio.timeout((LOST_S if is_lost else ASK_S) - PAUSE_S):
                    await self._suspected.wait()
            self._suspected.clear()

    async def _follow(self, slots: SlotMap) -> None:
        hosts = slots.hosts
        new = {host: Link(self._address.at(host), self._name, self._declared) for host in hosts - self._links.keys()}
        left = [self._links.pop(host) for host in self._links.keys() - hosts]
        self._links |= new
        self._slots = slots
        self._of.clear()
        if new or left:
            log.info("redis_primaries", hosts=sorted(map(str, hosts)))
        for link in new.values():
            link.begin()
        await asyncio.gather(*(link.stop(at_once=True) for link in left))
