"""What guarantees that the server of an earlier epoch no longer answers, and the nonce that stores it for an epoch
(docs/decisions/0047)."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, Self

from service.hot.cluster import Claim, Report
from service.hot.fitness import Replication

Setting = Literal["postgres", "lag", "log", "cluster"]
"""SCRIP_REDIS_FENCING."""

Fencing = Literal["", "postgres", "lag", "log", "cluster"]
"""The same of an epoch; '' if its server had no replicas: no other server can have its data."""

FRESH_S: dict[Fencing, float] = {"postgres": 0.5, "lag": 1.5, "cluster": 1.5}
"""The largest age of the last confirmation of an epoch when a reply arrives. Postgres confirms epochs of all three;
the replica confirms those of `lag`, and a committee of nodes those of `cluster`. An opening waits longer
(service/worker/opening.py)."""

COMMITTEE, LEAST_NODES = 5, 3
"""The most nodes of a committee, and the fewest: as many primaries must have slots, too, since only these vote."""

SHARED_LENGTH = 16
"""The first random characters of a nonce; all epochs on a server's start share them, and so the texts of scripts."""
RANDOM_LENGTH = 32

_MARKS: dict[Fencing, str] = {"": ".", "postgres": "!", "lag": "~", "log": "*", "cluster": "!"}
"""A nonce of `cluster` has a committee; without it, as in the texts of scripts, it is one of `postgres`."""
_parse = re.compile(r"(\w*)([.!~*])(\w*)(?:~(.+))?").fullmatch
_is_address = re.compile(r"[\w.:-]+:\d+", re.ASCII).fullmatch


class Nonce(NamedTuple):
    """`<random><mark><history>`, with `lag` `~<replica>`, with `cluster` `~<node>/<node of the committee>/…`."""

    random: str
    fencing: Fencing = ""
    history: str = ""
    """The verified history; '' if the server hides it."""
    replica: str = ""
    """With `lag`, the only replica: its address as the server reports it."""
    node: str = ""
    """With `cluster`, the id of the server."""
    committee: tuple[str, ...] = ()
    """With `cluster`, the ids of the nodes of which a majority confirms the epoch. Their roles may change."""

    def __str__(self) -> str:
        witness = "/".join((self.node, *self.committee)) or self.replica
        return f"{self.random}{_MARKS[self.fencing]}{self.history}{'~' if witness else ''}{witness}"

    @property
    def shared(self) -> str:
        """The part that is in the texts of scripts: a nonce, too, without a committee."""
        return str(self._replace(random=self.random[:SHARED_LENGTH], node="", committee=()))

    def fits(self, server: Replication) -> bool:
        """Whether this is still the verified server. With `lag`, its replica may be away, but there may be no other."""
        if self.history != server.history:
            return False
        if self.fencing == "lag":
            return server.count <= 1 and set(server.addresses) <= {self.replica}
        return bool(self.fencing) == server.is_followed

    def is_majority(self, nodes: Iterable[str]) -> bool:
        return 2 * len({*nodes} & {*self.committee}) > len(self.committee)


def parse_nonce(text: str) -> Nonce:
    match = _parse(text)
    if match is None:
        return Nonce(text)
    random, mark, history, witness = match.groups(default="")
    if mark == "!" and witness:
        node, *committee = witness.split("/")
        return Nonce(random, "cluster", history, node=node, committee=tuple(committee))
    fencings: dict[str, Fencing] = {mark: fencing for fencing, mark in _MARKS.items() if fencing != "cluster"}
    return Nonce(random, fencings[mark], history, witness)


def choose_nonce(
    random: str, setting: Setting, server: Replication, report: Report | None = None, last: Nonce | None = None
) -> Nonce:
    """The nonce of a new epoch. With the setting `lag` and no suitable replica, or `cluster` and no committee, Postgres
    alone confirms the epoch. `report` is the server's of its cluster; `last` is the nonce that may be kept."""
    if not server.is_followed:
        return Nonce(random, "", server.history)
    if setting == "cluster" and report and server.history:
        if committee := choose_committee(report, last.committee if last else ()):
            return Nonce(random, "cluster", server.history, node=report.reporter, committee=committee)
    elif setting == "lag" and (replica := only_replica(server)):
        return Nonce(random, "lag", server.history, replica)
    return Nonce(random, "log" if setting == "log" else "postgres", server.history)


def choose_committee(report: Report, last: tuple[str, ...] = ()) -> tuple[str, ...]:
    """An odd number of nodes that are there, primaries first; () if there are too few.

    The last committee stays while it can lose a node, or if another couldn't, either: a change closes partitions.
    """
    if sum(node.is_primary for node in report.nodes) < LEAST_NODES:
        return ()
    there = [node.id for node in sorted(report.nodes, key=lambda one: (not one.is_primary, one.id)) if node.is_there]
    size = min(COMMITTEE, len(there) - 1 + len(there) % 2)
    chosen = tuple(there[:size]) if size >= LEAST_NODES else ()

    def spare(committee: tuple[str, ...]) -> int:
        """How many more nodes it can lose; -1 if it has no majority."""
        return max(-1, len({*committee} & {*there}) - len(committee) // 2 - 1)

    return last if last and 0 <= spare(last) >= min(1, spare(chosen)) else chosen


def only_replica(server: Replication) -> str:
    """The address of the only replica, if it is online; else ''."""
    if server.count != 1 or len(server.replicas) != 1 or not server.history or server.is_clustered:
        return ""  # in a cluster, messages do not go by the replication stream
    (replica,) = server.replicas
    return replica.address if replica.is_online and _is_address(replica.address) else ""


class Confirmed(NamedTuple):
    """When an epoch was last known to be the newest; times are those of the process (time.monotonic)."""

    nonce: Nonce
    at: float
    had_other_replica: bool = False
    reported: Mapping[str, float] = MappingProxyType({})
    """By node of the committee, when it was last asked of those times at which it named the epoch's server."""

    def is_fresh(self, now: float) -> bool:
        return now - self.at <= FRESH_S.get(self.nonce.fencing, now - self.at)

    def by_postgres(self, asked_at: float) -> Self:
        """Postgres, asked then, reports this epoch as open."""
        return self._replace(at=max(asked_at, self.at))

    def by_replica(self, sent_at: float, now: float, sent: Replication, server: Replication) -> Self:
        """The server has sent its replica something at or after `sent_at`: `sent` is its replication just after that,
        `server` that of now.

        If its only replica has acknowledged that, it still followed, and no later epoch was open. The time of an
        acknowledgement proves nothing: a server that was stopped reads those that waited in its socket as if they were
        new. Nor does the replica confirm anything if the last confirmation is too old now, because it may have been a
        primary meanwhile, or once the server had another replica, which may be one now.
        """
        if self.nonce.fencing != "lag" or not self.nonce.history == sent.history == server.history:
            return self
        if not self.nonce.fits(server):
            return self._replace(had_other_replica=True)
        is_usable = server.is_primary and not self.had_other_replica and only_replica(server) == self.nonce.replica
        if is_usable and 0 < sent.offset <= server.replicas[0].offset and self.is_fresh(now):
            return self._replace(at=max(sent_at, self.at))
        return self

    def by_node(self, sent_at: float, now: float, claim: Claim) -> Self:
        """A node, asked at `sent_at`, reports now who has the partition's slot.

        A worker opens another server only after a majority of the committee has reported that one as the slot's owner.
        Any other majority shares a node with it, which reported to this process first. So that was asked before the
        worker read the reports. As with a replica, the committee confirms nothing if the last confirmation is too old
        now, because the slot may have left meanwhile, and may have come back.
        """
        if claim.reporter not in self.nonce.committee:
            return self
        reported = {node: at for node, at in self.reported.items() if node != claim.reporter}
        if claim.owner == self.nonce.node:
            reported[claim.reporter] = sent_at
        after = self._replace(reported=reported)
        if not self.nonce.is_majority(reported) or not self.is_fresh(now):
            return after
        asked_at = sorted(reported.values(), reverse=True)[len(self.nonce.committee) // 2]
        return after._replace(at=max(asked_at, self.at))
