"""What guarantees that the server of an earlier epoch no longer answers, and the nonce that stores it for an epoch
(decision 0047). Openings choose nonces, decider.py checks them. Postgres and the outbox keep their text."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, Self

from service.engine.hot.cluster import Claim, Report
from service.engine.hot.fitness import ENTRY_BYTES, Replication

Fencing = Literal["", "postgres", "log", "cluster"]
"""Of an epoch; '' if its server had no replicas: no other server can have its data."""

FRESH_S: dict[Fencing, float] = {"postgres": 0.5, "cluster": 1.5}
"""The largest age of the last confirmation of an epoch, when requests are sent and when a reply arrives. Postgres
confirms epochs of both, each POLL_S of wiring.py; a committee of nodes also those of `cluster`, each POLL_S of
committee_poll.py. An opening waits longer (service/engine/worker/opening/partition_opening.py)."""

COMMITTEE, LEAST_NODES = 5, 3
"""The most nodes of a committee, and the fewest: as many primaries must have slots, too, since only these vote."""

SHARED_LENGTH = 16
"""The first random characters of a nonce; all epochs on a server's start share them, and so the texts of scripts."""
RANDOM_LENGTH = 32

_SIGNS: dict[Fencing, str] = {"": ".", "postgres": "!", "log": "*", "cluster": "!"}
"""A nonce of `cluster` has a committee; without it, as in the texts of scripts, it is one of `postgres`."""
_parse = re.compile(r"(\w*)([.!*])(\w*)(?:~(.+))?").fullmatch
_entry_bytes = re.compile(r"(\d+)x").match


class Nonce(NamedTuple):
    """`<random><sign><history>`, with `cluster` `~<node>/<node of the committee>/…`."""

    random: str
    """`<entry_bytes>x`, and random digits."""
    fencing: Fencing = ""
    history: str = ""
    """The verified history; '' if the server hides it."""
    node: str = ""
    """With `cluster`, the id of the server."""
    committee: tuple[str, ...] = ()
    """With `cluster`, the ids of the nodes of which a majority confirms the epoch. Their roles may change."""

    def __str__(self) -> str:
        witness = "~" + "/".join((self.node, *self.committee)) if self.node else ""
        return f"{self.random}{_SIGNS[self.fencing]}{self.history}{witness}"

    @property
    def entry_bytes(self) -> int:
        """As in Fitness, when the texts were loaded."""
        match = _entry_bytes(self.random)
        return int(match[1]) if match else ENTRY_BYTES

    @property
    def shared(self) -> str:
        """The part that is in the texts of scripts: a nonce, too, without a committee."""
        return str(self._replace(random=self.random[:SHARED_LENGTH], node="", committee=()))

    def fits(self, server: Replication) -> bool:
        """Whether this is still the verified server."""
        return self.history == server.history and bool(self.fencing) == server.is_followed

    def is_majority(self, nodes: Iterable[str]) -> bool:
        return 2 * len({*nodes} & {*self.committee}) > len(self.committee)


def parse_nonce(text: str) -> Nonce:
    match = _parse(text)
    if match is None:
        return Nonce(text)
    random, sign, history, witness = match.groups(default="")
    if sign == "!" and witness:
        node, *committee = witness.split("/")
        return Nonce(random, "cluster", history, node=node, committee=tuple(committee))
    fencings: dict[str, Fencing] = {sign: fencing for fencing, sign in _SIGNS.items() if fencing != "cluster"}
    return Nonce(random, fencings[sign], history)


def choose_nonce(
    random: str, server: Replication, report: Report | None = None, last: Nonce | None = None, *, has_log: bool = False
) -> Nonce:
    """The nonce of a new epoch. Without a log and a committee, Postgres alone confirms the epoch.

    `has_log`: the server commits to a vendor's log, as declared. `report` is the server's of its cluster; `last` is the
    nonce of the current epoch, whose committee may stay (choose_committee).
    """
    if not server.is_followed:
        return Nonce(random, "", server.history)
    if has_log:
        return Nonce(random, "log", server.history)
    if report and server.history and (committee := choose_committee(report, last.committee if last else ())):
        return Nonce(random, "cluster", server.history, node=report.reporter, committee=committee)
    return Nonce(random, "postgres", server.history)


def choose_committee(report: Report, last: tuple[str, ...]) -> tuple[str, ...]:
    """An odd number of nodes that are there, primaries first; () if there are too few.

    The last committee stays while it can lose a node, or if another couldn't, either: a change closes partitions.
    """
    if sum(node.is_primary for node in report.nodes) < LEAST_NODES:
        return ()
    present = [node.id for node in sorted(report.nodes, key=lambda one: (not one.is_primary, one.id)) if node.is_there]
    size = min(COMMITTEE, len(present) - 1 + len(present) % 2)
    chosen = tuple(present[:size]) if size >= LEAST_NODES else ()

    def spare(committee: tuple[str, ...]) -> int:
        """How many more nodes it can lose; -1 if it has no majority."""
        return max(-1, len({*committee} & {*present}) - len(committee) // 2 - 1)

    return last if last and 0 <= spare(last) >= min(1, spare(chosen)) else chosen


class Confirmed(NamedTuple):
    """When an epoch was last known to be the newest; times are those of the process (time.monotonic)."""

    nonce: Nonce
    at: float
    reported: Mapping[str, float] = MappingProxyType({})
    """By node of the committee, when it was last asked of those times at which it named the epoch's server."""

    def is_fresh(self, now: float) -> bool:
        return now - self.at <= FRESH_S.get(self.nonce.fencing, now - self.at)

    def by_postgres(self, polled_at: float) -> Self:
        """Postgres, polled then, reports this epoch as open."""
        return self._replace(at=max(polled_at, self.at))

    def by_node(self, sent_at: float, now: float, claim: Claim) -> Self:
        """A node, asked at `sent_at`, reports now who has the partition's slot.

        A worker opens another server only after a majority of the committee has reported that one as the slot's owner.
        Any other majority shares a node with it, which reported to this process first. So that was asked before the
        worker read the reports. The committee confirms nothing if the last confirmation is too old now, because the
        slot may have left in that time, and may have come back.
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
