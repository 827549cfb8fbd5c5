"""Read the last event in the outbox of each partition, for `scrip partitions`."""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing, suppress

import hiredis

from service.common.redis_address import Host, parse_redis_address
from service.engine.formats.event_id import NO_EVENT, EventId, parse_event_id
from service.engine.hot.connection import Broken, connect
from service.engine.hot.discovery import read_slots
from service.engine.hot.redis_server import Server


async def read_tails(redis_url: str, partitions: Iterable[int]) -> dict[int, EventId]:
    """The last events, NO_EVENT for an empty outbox; without the partitions whose server does not reply."""
    address, tails = parse_redis_address(redis_url), dict[int, EventId]()
    by_host: defaultdict[Host | None, list[int]] = defaultdict(list)  # None: the URL's own server, which has all
    with suppress(OSError, Broken):
        slots = await read_slots(address) if address.is_cluster else None
        for partition in partitions:
            by_host[slots.host_of(partition) if slots else None].append(partition)
    for host, some in by_host.items():
        if address.is_cluster and host is None:  # in a cluster: no node has these
            continue
        with suppress(OSError, Broken, hiredis.ReplyError):
            where = address.at(host) if host else address
            with closing(await connect(where, "scrip-command")) as connection:
                for partition in some:
                    tail = await Server(connection, partition).tail()
                    tails[partition] = parse_event_id(tail) if tail else NO_EVENT
    return tails
