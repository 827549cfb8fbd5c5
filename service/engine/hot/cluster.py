"""Parse what nodes of a cluster report: who has each slot, in which configuration.

Connections, fencing and openings use it. Without side effects. Nonces have node ids of ID_LENGTH.
"""

import binascii
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import hiredis

from service.common.redis_address import Host

SLOTS = 16_384
ID_LENGTH = 12
"""How much of a node's id is used: 48 random bits."""
_AWAY = frozenset(("fail", "fail?", "handshake", "noaddr"))


class Node(NamedTuple):
    """A node and its slots, as some node reports them."""

    config_epoch: int
    host: Host
    slots: tuple[tuple[int, int], ...]
    """First and last slot of each range."""
    id: str
    """The first ID_LENGTH characters of its id, which lives as long as its nodes.conf."""
    flags: frozenset[str]
    primary: str = ""
    """Of a replica, its primary's id."""

    @property
    def is_primary(self) -> bool:
        """Whether it is a primary with slots. Only these vote in a cluster."""
        return "master" in self.flags and bool(self.slots)

    @property
    def is_there(self) -> bool:
        """Whether the reporting node reaches it."""
        return not self.flags & _AWAY

    def has(self, slot: int) -> bool:
        return any(first <= slot <= last for first, last in self.slots)


class Claim(NamedTuple):
    """Who has a slot, as one node reports it. A node replaces a claim only by one with a greater epoch."""

    reporter: str
    owner: str
    """'' if no node has the slot."""
    config_epoch: int


class Report(NamedTuple):
    """All nodes, as one of them reports them."""

    reporter: str
    nodes: tuple[Node, ...]

    def claim(self, slot: int) -> Claim:
        owners = [node for node in self.nodes if node.is_primary and node.has(slot)]
        return Claim(self.reporter, owners[0].id, owners[0].config_epoch) if owners else Claim(self.reporter, "", 0)

    def count_replicas(self) -> int:
        """The reporter's, also those that are away."""
        return sum(node.primary == self.reporter for node in self.nodes)


class SlotMap:
    """The primary of each slot, by the newest of some reports: each change of a slot's primary has a greater epoch."""

    def __init__(self, reports: Iterable[Report]) -> None:
        nodes = {node for report in reports for node in report.nodes}
        self._primaries = sorted((node for node in nodes if node.is_primary), key=lambda one: -one.config_epoch)
        self.places = {node.id: node.host for node in nodes if node.is_there}
        """By its id, where each node listens."""

    def host_of(self, partition: int) -> Host | None:
        """The primary of a partition's slot; None if no node has the slot."""
        return self._owner(slot_of(partition))

    @property
    def hosts(self) -> frozenset[Host]:
        """All primaries that have slots."""
        firsts = {first for primary in self._primaries for first, _ in primary.slots}
        return frozenset(host for first in firsts if (host := self._owner(first)))

    def _owner(self, slot: int) -> Host | None:
        return next((primary.host for primary in self._primaries if primary.has(slot)), None)


@cache
def slot_of(partition: int) -> int:
    """The slot of all keys of a partition: CRC16 of their hash tag."""
    return binascii.crc_hqx(f"p{partition}".encode(), 0) % SLOTS


def parse_report(is_tls: bool, asked: Host, reply: Any) -> Report | None:
    """A reply to CLUSTER NODES; None for an error, or from a node that knows of no slots.

    A line is `<id> <ip>:<port>@<bus port>[,<name>] <flags> <primary> <ping> <pong> <config epoch> <link> <slots>…`. The
    asked node may not know its own address. With TLS the name that a node announces is used, if it has one. Slots that
    are being moved key by key (`[77->-…`) still belong to the node that has them.
    """
    if isinstance(reply, hiredis.ReplyError):
        return None
    nodes: list[Node] = []
    for line in reply.splitlines():
        node_id, address, flags, primary, _, _, config_epoch, _, *texts = line.split(" ")
        ranges = [text.partition("-") for text in texts if text[:1].isdigit()]
        where, _, announced = address.partition(",")
        ip, _, port = where.partition("@")[0].rpartition(":")
        name = announced.partition(",")[0]
        host = Host((name if is_tls and name else ip) or asked.name, int(port))
        slots = tuple((int(first), int(last or first)) for first, _, last in ranges)
        ids = node_id[:ID_LENGTH], frozenset(flags.split(",")), primary.strip("-")[:ID_LENGTH]
        nodes.append(Node(int(config_epoch), host, slots, *ids))
    reporter = next((node.id for node in nodes if "myself" in node.flags), "")
    return Report(reporter, tuple(nodes)) if reporter and any(node.is_primary for node in nodes) else None
