"""The names of Redis's keys (docs/architecture.md, Redis keys): a builder for each kind, and the one parser. Every part
is a number of ours, or text that is the last part and is taken word for word: two things never share a key."""

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple
from zlib import crc32

import msgspec

BUCKETS = 131_072
"""Buckets of the directory, the pool, the orders and the users; a power of two, the same for every workspace."""


LAYOUT = "5"
"""The number of this layout. A Redis of another one is rebuilt whole when it is opened."""

OWN = {
    "gate": "string", "outbox": "stream", "config": "string", "layout": "string", "newest": "string", "mend": "string",
    "erased": "string",
}  # fmt: skip
"""The kinds of a partition's own keys, with the type that Redis holds each as."""

TYPES = {
    "w": "string", "x": "hash", "b": "string", "n": "hash", "d": "hash", "f": "hash", "c": "string", "l": "zset",
    "k": "hash", "kd": "zset", "lb": "zset", "lu": "zset", "lk": "zset", "q": "string", "u": "hash", "o": "hash",
    "g": "hash", "s": "zset", "e": "hash", "i": "string", "y": "hash",
}  # fmt: skip
"""The same for a workspace's."""

_NUMBER, _BOOK = "(?:0|[1-9][0-9]{0,9})", "([1-9][0-9]{0,9})"
_BUCKET, _CODE = "(0|[1-9][0-9]{0,5})", "([A-Z0-9_-]{4,64})"
_USER, _KEY = "([!-~]{1,100})", "([ -~]{1,255})"
_HOLDER = "([0-9A-Z]{0,40})"
_PARTS = {
    "b": _BOOK, "n": _BOOK, "f": _BOOK, "lb": _BOOK, "l": f"{_BOOK}:([uapox])", "d": _BUCKET, "o": _BUCKET,
    "g": _BUCKET, "c": _CODE, "k": _CODE, "kd": _CODE, "s": _CODE, "u": _USER, "lu": f"{_BOOK}:{_USER}", "lk": _HOLDER,
    "i": _KEY, "q": f"([rmab]):{_HOLDER}",
}  # fmt: skip
_match_head = re.compile(rf"\{{p({_NUMBER})\}}:(?:w({_NUMBER}):([a-z]{{1,2}})(:.+)?|([a-z]+))", re.DOTALL).fullmatch
_match_parts = {kind: re.compile(":" + parts).fullmatch for kind, parts in _PARTS.items()}


class Key(NamedTuple):
    """What a key's name says: whose it is (workspace 0: the partition's own), its kind, and the parts of that kind."""

    partition: int
    workspace: int
    kind: str
    parts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name."""
        if not self.workspace:
            return f"{{p{self.partition}}}:{self.kind}"
        return prefix(self.partition, self.workspace) + ":".join((self.kind, *self.parts))

    @property
    def type(self) -> str:
        """What Redis holds it as, by the words of its command TYPE."""
        return TYPES[self.kind] if self.workspace else OWN[self.kind]


def parse_key(name: str) -> Key | None:
    """The key of this name; None where no builder makes it. Read from the left, so that what a client wrote is in the
    last part, whatever it says."""
    head = _match_head(name)
    if head is None:
        return None
    partition, workspace, kind, rest, own = head.groups()
    if own is not None:
        return Key(int(partition), 0, own) if own in OWN else None
    if kind not in TYPES or workspace == "0":
        return None
    if kind not in _match_parts:
        return Key(int(partition), int(workspace), kind) if rest is None else None
    parts = _match_parts[kind](rest or "")
    if parts is None or (kind in "dog" and int(parts[1]) >= BUCKETS):
        return None
    return Key(int(partition), int(workspace), kind, parts.groups())


def bucket(text: str) -> int:
    """The bucket of a code, an order or a user."""
    return crc32(text.encode()) & (BUCKETS - 1)


def partition_of(workspace_id: str, partitions: int) -> int:
    """The partition of a workspace, from its UUID in the usual spelling."""
    return crc32(workspace_id.encode()) % partitions


def partition_prefix(partition: int) -> str:
    """What every key of a partition begins with."""
    return f"{{p{partition}}}:"


def prefix(partition: int, workspace: int) -> str:
    """What every key of a workspace begins with; the builders below take it as `w`."""
    return f"{{p{partition}}}:w{workspace}:"


def _of_partition(kind: str) -> Callable[[int], str]:
    return lambda partition: f"{{p{partition}}}:{kind}"


def _of_workspace(kind: str) -> Callable[[str], str]:
    return lambda w: f"{w}{kind}"


def _of_number(kind: str) -> Callable[[str, int | str], str]:
    """Of each book, or of each bucket."""
    return lambda w, number: f"{w}{kind}:{number}"


def _of_text(kind: str) -> Callable[[str, str], str]:
    """Of each code, user or key."""
    return lambda w, text: f"{w}{kind}:{text}"


gate, outbox = _of_partition("gate"), _of_partition("outbox")
config = _of_partition("config")
"""The last configuration version that is here with all before it."""
layout = _of_partition("layout")
newest = _of_partition("newest")
"""The newest configuration version that anything here is of."""
mend = _of_partition("mend")
"""How far the mending of a partition's Redis is."""
erased = _of_partition("erased")
"""The event up to which the outbox names users that were deleted."""

settings = _of_workspace("w")
books = _of_workspace("x")
"""The numbers of the books, by their UUIDs."""
moved = _of_workspace("e")
"""The redemptions whose counts have gone from a deleted user to its pseudonym."""
kept_bytes = _of_workspace("y")
"""How many bytes the workspace's kept answers have, by the hour in which they were kept."""

book = _of_number("b")
"""A book's settings."""
counters = _of_number("n")
"""A book's counters."""
pool = _of_number("f")
"""How many free codes of a book are in each bucket."""
locks_of_book = _of_number("lb")
"""The locks that count against a book's total."""
directory = _of_number("d")
"""A bucket of codes."""
orders = _of_number("o")
"""A bucket of orders' places and users' uses."""
gifts = _of_number("g")
"""A bucket of orders' gifts."""

coupon = _of_text("c")
"""A code's record."""
standing = _of_text("s")
"""The standing redemptions of a code with several uses."""
locks = _of_text("k")
"""The locks of a code with several uses, by holder."""
deadlines = _of_text("kd")
"""The same by deadline."""
locks_of_holder = _of_text("lk")
"""The locks that an API key, or a user's token, has taken."""
user = _of_text("u")
"""What a user has, by book."""
answer = _of_text("i")
"""What is answered again under an Idempotency-Key."""


def set_of_codes(w: str, number: int | str, which: str) -> str:
    """A book's locked codes (`u`, `a`, `p`, `o`) by deadline, or its free ones that end by themselves (`x`)."""
    return f"{w}l:{number}:{which}"


def locks_of_user(w: str, number: int | str, user: str) -> str:
    """The locks that count against a user's limits in a book."""
    return f"{w}lu:{number}:{user}"


def rate(w: str, which: str, of: str | int) -> str:
    """A counter of a minute: requests (`r`) or misses (`m`) of a key, misses of an address (`a`) or of a book (`b`)."""
    return f"{w}q:{which}:{of}"


class WorkspaceKeys(msgspec.Struct, frozen=True):
    """What requests name of a workspace: two keys, and of others what stands before their bucket or text. Made once: a
    builder for each key of each request would cost more than 2 % of it."""

    settings: str
    books: str
    directory: str
    orders: str
    gifts: str
    coupon: str
    answer: str


@cache
def of_workspace(w: str) -> WorkspaceKeys:
    """Those of one."""
    buckets = (directory(w, ""), orders(w, ""), gifts(w, ""))
    return WorkspaceKeys(settings(w), books(w), *buckets, coupon(w, ""), answer(w, ""))
