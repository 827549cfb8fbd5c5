"""What guarantees that the server of an earlier epoch no longer answers, and the nonce that stores it for an epoch
(docs/decisions/0047)."""

import re
from typing import Literal, NamedTuple, Self, get_args

from service.hot.fitness import Replication

Setting = Literal["postgres", "lag", "log"]
"""SCRIP_REDIS_FENCING."""

Fencing = Literal["", "postgres", "lag", "log"]
"""The same of an epoch; '' if its server had no replicas: no other server can have its data."""

FRESH_S: dict[Fencing, float] = {"postgres": 0.5, "lag": 1.5}
"""The largest age of the last confirmation of an epoch when a reply arrives. Postgres confirms epochs of both kinds;
the replica confirms those of `lag`. An opening waits longer (service/worker/opening.py)."""

SHARED_LENGTH = 16
"""The first random characters of a nonce; all epochs on a server's start share them, and so the texts of scripts."""
RANDOM_LENGTH = 32

_MARKS: dict[Fencing, str] = dict(zip(get_args(Fencing), ".!~*", strict=True))
_parse = re.compile(r"(\w*)([.!~*])(\w*)(?:~(.+))?").fullmatch
_is_address = re.compile(r"[\w.:-]+:\d+", re.ASCII).fullmatch


class Nonce(NamedTuple):
    """`<random><mark><history>`, and with `lag` `~<replica>`."""

    random: str
    fencing: Fencing = ""
    history: str = ""
    """The verified history; '' if the server hides it."""
    replica: str = ""
    """With `lag`, the only replica: its address as the server reports it."""

    def __str__(self) -> str:
        replica = f"~{self.replica}" if self.replica else ""
        return f"{self.random}{_MARKS[self.fencing]}{self.history}{replica}"

    @property
    def shared(self) -> str:
        """The part that is in the texts of scripts: a nonce, too."""
        return str(self._replace(random=self.random[:SHARED_LENGTH]))

    def fits(self, server: Replication) -> bool:
        """Whether this is still the verified server. With `lag`, its replica may be away, but there may be no other."""
        if self.history != server.history:
            return False
        if self.fencing == "lag":
            return server.count <= 1 and set(server.addresses) <= {self.replica}
        return bool(self.fencing) == server.is_followed


def parse_nonce(text: str) -> Nonce:
    match = _parse(text)
    if match is None:
        return Nonce(text)
    fencings: dict[str, Fencing] = {mark: fencing for fencing, mark in _MARKS.items()}
    return Nonce(match[1], fencings[match[2]], match[3], match[4] or "")


def choose_nonce(random: str, setting: Setting, server: Replication) -> Nonce:
    """The nonce of a new epoch. With the setting `lag` and no suitable replica, Postgres alone confirms the epoch."""
    if not server.is_followed:
        return Nonce(random, "", server.history)
    if setting != "lag":
        return Nonce(random, setting, server.history)
    if replica := only_replica(server):
        return Nonce(random, "lag", server.history, replica)
    return Nonce(random, "postgres", server.history)


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
