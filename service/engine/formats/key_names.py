"""The names of Redis's keys (formats.md, Redis keys): a builder for each kind, and one parser. Operations,
hot/, the worker and comparisons call it. Scripts build the same names: a changed name needs another LAYOUT.

Each part is a number of the service's; only the last part may be a client's text. So names are unique.

A new kind needs its type in OWN or TYPES, its parts in _PARTS, a builder, and a row in docs/internals/formats.md.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import NamedTuple
from zlib import crc32

import msgspec

BUCKETS = 131_072
"""Buckets of the directory, the pool, the orders and the users; a power of two, the same for every workspace."""

_MASK = BUCKETS - 1

LAYOUT = "3"
"""The number of this layout. An opening rebuilds a Redis with another layout."""


def _by_kind(**kinds: str) -> dict[str, str]:
    return {kind: text for text, names in kinds.items() for kind in names.split()}


OWN = _by_kind(string="gate config layout newest mend", stream="outbox")
"""The kinds of a partition's own keys, and their types in Redis."""

TYPES = _by_kind(string="w b c q i lo", hash="x n d f k u o g m e y bh", zset="l kd lb lu lk s ue bl bu")
"""The kinds of a workspace's keys, and their types."""

SETS_OF_LOCKS = "uapo"
SETS_OF_CODES = f"{SETS_OF_LOCKS}x"
"""A book's sets: its locked codes (`u`, `a`, `p`, `o`) by deadline, and its free codes with their own expiry (`x`).
Codes whose locks the merchant ended are in sets with a number in their names until lua/sweep_locks.lua empties them."""

_NUMBER, _BOOK = "(?:0|[1-9][0-9]{0,9})", "([1-9][0-9]{0,9})"
_BUCKET, _CODE = "(0|[1-9][0-9]{0,5})", "([A-Z0-9_-]{4,64})"
_USER, _KEY = "([!-~]{1,100})", "([ -~]{1,255})"
_HOLDER = "([0-9A-Z]{0,40})"
_PARTS = _by_kind(
    **{
        _BOOK: "b n f lb bl bh",
        f"{_BOOK}:(x|[{SETS_OF_LOCKS}](?:[1-9][0-9]{{0,18}})?)": "l",
        f"{_BOOK}:{_USER}": "lu ue bu",
        _BUCKET: "d o g m",
        _CODE: "c k kd s",
        _USER: "u lo",
        _HOLDER: "lk",
        f"([rmab]):{_HOLDER}": "q",
        _KEY: "i",
    }
)
_match_head = re.compile(rf"\{{p({_NUMBER})\}}:(?:w({_NUMBER}):([a-z]{{1,2}})(:.+)?|([a-z]+))", re.DOTALL).fullmatch
_match_parts = {kind: re.compile(":" + parts).fullmatch for kind, parts in _PARTS.items()}


class Key(NamedTuple):
    """A key: its partition, workspace (0 for a partition's own key), kind, and the kind's parts."""

    partition: int
    workspace: int
    kind: str
    parts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        if not self.workspace:
            return f"{{p{self.partition}}}:{self.kind}"
        return prefix(self.partition, self.workspace) + ":".join((self.kind, *self.parts))

    @property
    def type(self) -> str:
        """The key's type, as Redis's command TYPE returns it."""
        return TYPES[self.kind] if self.workspace else OWN[self.kind]


def parse_key(name: str) -> Key | None:
    """The key of this name; None if no builder makes it."""
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
    if parts is None or (kind in "dogm" and int(parts[1]) >= BUCKETS):
        return None
    return Key(int(partition), int(workspace), kind, parts.groups())


def bucket(text: str) -> int:
    """The bucket of a code, an order or a user."""
    return crc32(text.encode()) & _MASK


def bucket_text(text: str) -> str:
    """As bucket, as scripts take it; without a call of bucket, since a request needs three."""
    return str(crc32(text.encode()) & _MASK)


def partition_of(workspace_id: str, partitions: int) -> int:
    """The partition of a workspace, from its UUID in canonical form."""
    return crc32(workspace_id.encode()) % partitions


def partition_prefix(partition: int) -> str:
    return f"{{p{partition}}}:"


def prefix(partition: int, workspace: int) -> str:
    """The prefix of a workspace's keys; the builders below take it as `w`."""
    return f"{{p{partition}}}:w{workspace}:"


def _of_partition(kind: str) -> Callable[[int], str]:
    return lambda partition: f"{{p{partition}}}:{kind}"


def _of_workspace(kind: str) -> Callable[[str], str]:
    return lambda w: f"{w}{kind}"


def _of_part(kind: str) -> Callable[[str, int | str], str]:
    """Keys with one part: a book, a bucket, a code, a user or an Idempotency-Key."""
    return lambda w, part: f"{w}{kind}:{part}"


gate, outbox = _of_partition("gate"), _of_partition("outbox")
config = _of_partition("config")
"""The last configuration version that Redis has with all before it."""
layout = _of_partition("layout")
newest = _of_partition("newest")
"""The newest configuration version of any value in Redis."""
mend = _of_partition("mend")
"""The progress of a recovery."""

settings = _of_workspace("w")
books = _of_workspace("x")
"""The numbers of the books, by UUID."""
moved = _of_workspace("e")
"""The redemptions whose counts have moved from a deleted user to its pseudonym; and in the field `last` the event up to
which the outbox may name deleted users."""
kept_bytes = _of_workspace("y")
"""The bytes of stored answers, by the hour in which they expire."""

book = _of_part("b")
"""A book's settings."""
counters = _of_part("n")
"""A book's counters."""
pool = _of_part("f")
"""The number of a book's free codes in each bucket."""
locks_of_book = _of_part("lb")
"""The locks that count against a book's total."""
shares = _of_part("bl")
"""What stored locks hold of a book's budgets."""
held_sums = _of_part("bh")
"""The sums of that by period."""
directory = _of_part("d")
"""A bucket of codes."""
orders = _of_part("o")
"""A bucket of orders' places and users' counts."""
gifts = _of_part("g")
"""A bucket of orders' gifts."""

accounts = _of_part("m")
"""A bucket of cards' accounts."""

coupon = _of_part("c")
"""A code's record."""
standing = _of_part("s")
"""The standing redemptions of a code with several uses."""
locks = _of_part("k")
"""The locks of a code with several uses, by user and order."""
deadlines = _of_part("kd")
"""The same locks, by deadline."""
marks_of_order = _of_part("lo")
"""An order's locks of codes with several uses."""
locks_of_holder = _of_part("lk")
"""The locks that an API key or a user's token has taken."""
user = _of_part("u")
"""A user's assignments and held coupons, by book, and the user's cap."""
answer = _of_part("i")
"""The entry of an Idempotency-Key."""


def set_of_codes(w: str, number: int | str, name: str) -> str:
    """One of SETS_OF_CODES."""
    return f"{w}l:{number}:{name}"


def locks_of_user(w: str, number: int | str, user: str) -> str:
    """The locks that count against a user's limits in a book."""
    return f"{w}lu:{number}:{user}"


def shares_of_user(w: str, number: int | str, user: str) -> str:
    """What a user's stored locks hold of a book's budgets."""
    return f"{w}bu:{number}:{user}"


def ends_of_user(w: str, number: int | str, user: str) -> str:
    """The codes of a book that a user holds and that have an end of their own, by it."""
    return f"{w}ue:{number}:{user}"


def rate(w: str, counted: str, holder: str | int) -> str:
    """A counter per minute: requests (`r`) or misses (`m`) of a key, misses of an address (`a`) or of a book (`b`)."""
    return f"{w}q:{counted}:{holder}"


class WorkspaceKeys(msgspec.Struct, frozen=True):
    """A workspace's keys for requests: two whole keys, else prefixes. Building each key per request would cost 2 %."""

    settings: str
    books: str
    directory: str
    orders: str
    gifts: str
    coupon: str
    answer: str


@cache
def of_workspace(w: str) -> WorkspaceKeys:
    buckets = (directory(w, ""), orders(w, ""), gifts(w, ""))
    return WorkspaceKeys(settings(w), books(w), *buckets, coupon(w, ""), answer(w, ""))
