"""Limits: how often and how much a credential may ask, miss and lock, so that nobody guesses
codes or locks a sale empty.

A minute begins with the first request that it counts, on Redis's clock. A miss is `coupon_not_found` or
`coupon_assigned_to_other`, among a validate's reasons too; of a caller that learns no reason, every no.
"""

import ipaddress
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated

import msgspec

from service.domain.field_types import Count, Request

PUBLIC_ADDRESS_MISSES = 100
"""Of a `public` key where nothing else is said: shoppers' browsers ask with it."""
ADDRESS_COUNTERS = 131_072
"""Of a workspace at most: addresses share them, so that a flood of addresses fills no memory."""
WINDOW_S = 60

Percent = Annotated[int, msgspec.Meta(ge=1, le=100)]


class KeyLimits(Request):
    """What a key may do; null is no limit of its own."""

    requests_per_minute: Annotated[Count | None, msgspec.Meta(description="Requests, each of a batch counted.")] = None
    misses_per_minute: Annotated[
        Count | None, msgspec.Meta(description="Unknown codes and codes of others; refused from then on.")
    ] = None
    address_misses_per_minute: Annotated[
        Count | None,
        msgspec.Meta(description="The same of each client's address; 100 for a `public` key."),
    ] = None
    live_locks: Annotated[Count | None, msgspec.Meta(description="Locks that live at once.")] = None


class BookLimits(Request):
    """What may be done with a book's coupons; null is the workspace's."""

    misses_per_minute: Annotated[
        Count | None, msgspec.Meta(description="Codes of others that were tried; further ones hear no reason.")
    ] = None
    locks_per_user: Annotated[Count | None, msgspec.Meta(description="A user's locks that live at once.")] = None
    locked_percent: Annotated[
        Percent | None,
        msgspec.Meta(description="How much of what is left may be locked at once; one lock is always allowed."),
    ] = None


class WorkspaceLimits(Request):
    """What goes for keys and books that say nothing else."""

    keys: KeyLimits | None = None
    books: BookLimits | None = None


def encode_key_limits(own: KeyLimits | None, workspace: WorkspaceLimits | None, *, of_books: bool) -> str:
    """What goes for a credential, its own limits before the workspace's, as lua/includes/limits.lua reads it; '' for
    nothing. `of_books`: some book has a limit of misses."""
    usual = (workspace and workspace.keys) or KeyLimits()
    found = [_first(own, usual, name) for name in KeyLimits.__struct_fields__]
    of_books = of_books or bool(workspace and workspace.books and workspace.books.misses_per_minute)
    if found == [None] * len(found) and not of_books:
        return ""
    return " ".join("-" if value is None else str(value) for value in found)


def _first(own: KeyLimits | None, usual: KeyLimits, name: str) -> int | None:
    value = getattr(own, name) if own else None
    return getattr(usual, name) if value is None else value


def encode_public_limits(words: str) -> str:
    """The same of a credential that learns no reason: its addresses' misses are always limited."""
    requests, misses, address, locks = (words or "- - - -").split()
    return f"{requests} {misses} {PUBLIC_ADDRESS_MISSES if address == '-' else address} {locks}"


def encode_book_limits(limits: BookLimits | None) -> str | None:
    """A book's limits, or those that a workspace's books have, as lua/lock.lua reads them; None for none."""
    if limits is None or limits == BookLimits():
        return None
    values = (limits.misses_per_minute, limits.locks_per_user, limits.locked_percent)
    return "/".join("-" if value is None else str(value) for value in values)


@lru_cache(maxsize=4096)
def address_counter(address: str | None, salt: bytes) -> int:
    """Which of the counters an address has: one of IPv6 shares it with its /64, which is one customer's. `salt` keeps
    others from finding addresses that share it with somebody's."""
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        network = b""
    else:
        found = getattr(found, "ipv4_mapped", None) or found
        network = found.packed[: 4 if found.version == 4 else 8]
    return int.from_bytes(blake2b(network, digest_size=4, key=salt).digest(), "big") % ADDRESS_COUNTERS


def rate_headers(rates: str) -> dict[str, str]:
    """The headers `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10) of what a script said is
    left: by turns name, limit, left, seconds."""
    words = rates.split()
    each = list(zip(words[::4], words[1::4], words[2::4], words[3::4], strict=True))
    if not each:
        return {}
    return {
        "RateLimit": ", ".join(f'"{name}";r={left};t={seconds}' for name, _, left, seconds in each),
        "RateLimit-Policy": ", ".join(f'"{name}";q={limit};w={WINDOW_S}' for name, limit, _, _ in each),
    }
