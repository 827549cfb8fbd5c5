"""The states of partitions as Redis stores them, for `scrip partitions` and `scrip status`."""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing, suppress
from typing import NamedTuple

import hiredis

from service.common.redis_address import Host, parse_redis_address
from service.engine.formats.event_id import NO_EVENT, EventId, parse_event_id
from service.engine.hot.connection import Broken, connect
from service.engine.hot.discovery import read_slots
from service.engine.hot.redis_server import Server


class PartitionState(NamedTuple):
    """A partition's last event in the outbox, or NO_EVENT; the state in its gate, such as `open`; and the memory of its
    server, with a limit of 0 for none."""

    last: EventId
    gate: str
    used_bytes: int
    limit_bytes: int


async def read_partition_states(redis_url: str, partitions: Iterable[int]) -> dict[int, PartitionState]:
    """By partition, without those whose server does not reply."""
    address, states = parse_redis_address(redis_url), dict[int, PartitionState]()
    by_host: defaultdict[Host | None, list[int]] = defaultdict(list)  # None: the URL's own server, which has all
    with suppress(OSError, Broken):
        slots = await read_slots(address) if address.is_cluster else None
        for partition in partitions:
            by_host[slots.host_of(partition) if slots else None].append(partition)
    for host, some in by_host.items():
        if address.is_cluster and host is None:  # in a cluster: no node has these
            continue
        with suppress(OSError, Broken, hiredis.ReplyError):
            node = address.at(host) if host else address
            with closing(await connect(node, "scrip-command")) as connection:
                memory = await Server(connection, some[0]).info("memory")
                used, limit = int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0))
                for partition in some:
                    server = Server(connection, partition)
                    tail, gate = await server.tail(), await server.command("GET", server.gate)
                    last = parse_event_id(tail) if tail else NO_EVENT
                    states[partition] = PartitionState(last, (gate or "? none").split(" ")[1], used, limit)
    return states
