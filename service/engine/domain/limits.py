"""Limits of requests, misses and locks of a credential, against guessing codes and against locking all of a sale.

Rows and requests use the structs: their names are in the API's JSON and in Postgres's. lua/includes/limits.lua and
lua/lock.lua read the encoded texts by position, which is the order of the fields.

A minute begins with the first request that it counts, on Redis's clock. A miss is `coupon_not_found` or
`coupon_assigned_to_other`, also among the reasons of a validate. For a caller that receives no reasons, every validate
without success is a miss, but those whose reasons the book tells (`publicReasons`).
"""

import ipaddress
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated

import msgspec
from msgspec.structs import astuple, fields

from service.engine.domain.errors import invalid
from service.engine.domain.field_types import Count, Request

PUBLIC_ADDRESS_MISSES = 100
"""Default limit of misses per address for a `public` key, which shoppers' browsers use."""
ADDRESS_COUNTERS = 131_072
"""Counters of addresses in a workspace: addresses share them, which bounds the memory."""
WINDOW_S = 60

Percent = Annotated[int, msgspec.Meta(ge=1, le=100)]


class KeyLimits(Request):
    """Limits of a key; null means the workspace's limit."""

    requests_per_minute: Annotated[
        Count | None, msgspec.Meta(description="Requests; each operation of a batch counts as one.")
    ] = None
    misses_per_minute: Annotated[
        Count | None,
        msgspec.Meta(description="Requests with an unknown or another user's code; others are refused."),
    ] = None
    address_misses_per_minute: Annotated[
        Count | None,
        msgspec.Meta(description="As `missesPerMinute`, for each client address; default for a `public` key: 100."),
    ] = None
    live_locks: Annotated[Count | None, msgspec.Meta(description="Live locks at one time.")] = None


class BookLimits(Request):
    """Limits of a book's coupons; null means the workspace's limit."""

    misses_per_minute: Annotated[
        Count | None, msgspec.Meta(description="Requests with another user's code; others get no reason.")
    ] = None
    locks_per_user: Annotated[Count | None, msgspec.Meta(description="Live locks of a user at one time.")] = None
    locked_percent: Annotated[
        Percent | None,
        msgspec.Meta(description="Share of the remaining codes that may be locked; one lock is always allowed."),
    ] = None


class WorkspaceLimits(Request):
    """Default limits of the workspace's keys and books."""

    keys: KeyLimits | None = None
    books: BookLimits | None = None


def encode_key_limits(
    own: KeyLimits | None, workspace: WorkspaceLimits | None, operator: KeyLimits | None, *, of_books: bool
) -> str:
    """The limits of a credential as lua/includes/limits.lua reads them; '' for no limits. The credential's own limits
    override the workspace's; none is above the operator's. `of_books`: some book limits misses."""
    defaults = (workspace.keys if workspace else None) or KeyLimits()
    limits = (own or KeyLimits(), defaults, operator or KeyLimits())
    values = [
        min((value for value in (default if value is None else value, most) if value is not None), default=None)
        for value, default, most in zip(*map(astuple, limits), strict=True)
    ]
    of_books = of_books or bool(workspace and workspace.books and workspace.books.misses_per_minute)
    if values == [None] * len(values) and not of_books:
        return ""
    return " ".join("-" if value is None else str(value) for value in values)


def check_operator_limits(path: str, limits: KeyLimits | None, operator: KeyLimits | None) -> None:
    """Raise Refusal `invalid` if a limit is above the operator's."""
    pairs = zip(astuple(limits or KeyLimits()), astuple(operator or KeyLimits()), strict=True)
    for field, (value, most) in zip(fields(KeyLimits), pairs, strict=True):
        if value is not None and most is not None and value > most:
            reason = f"must be at most {most}, which the operator of this service has set"
            raise invalid(f"{path}.{field.encode_name}", reason)


def encode_public_limits(limits: str) -> str:
    """The limits of a `public` credential: misses per address always have a limit."""
    requests, misses, address, locks = (limits or "- - - -").split()
    return f"{requests} {misses} {PUBLIC_ADDRESS_MISSES if address == '-' else address} {locks}"


def encode_book_limits(limits: BookLimits | None) -> str | None:
    """A book's limits, or a workspace's defaults for books, as lua/lock.lua reads them; None for no limits."""
    if limits is None or limits == BookLimits():
        return None
    return "/".join("-" if value is None else str(value) for value in astuple(limits))


@lru_cache(maxsize=4096)
def address_counter(address: str | None, salt: bytes) -> int:
    """The counter's number of an address. IPv6 addresses of one /64, which is one customer's, share a counter. The
    `salt` prevents clients from choosing addresses that share a counter with another client."""
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        network = b""
    else:
        ip = getattr(ip, "ipv4_mapped", None) or ip
        network = ip.packed[: 4 if ip.version == 4 else 8]
    return int.from_bytes(blake2b(network, digest_size=4, key=salt).digest(), "big") % ADDRESS_COUNTERS


def make_rate_headers(rates: str) -> dict[str, str]:
    """The headers `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10). `rates` is from a
    script's reply: name, limit, remaining and seconds of each limit, separated by spaces."""
    fields = rates.split()
    limits = list(zip(fields[::4], fields[1::4], fields[2::4], fields[3::4], strict=True))
    if not limits:
        return {}
    return {
        "RateLimit": ", ".join(f'"{name}";r={remaining};t={seconds}' for name, _, remaining, seconds in limits),
        "RateLimit-Policy": ", ".join(f'"{name}";q={limit};w={WINDOW_S}' for name, limit, _, _ in limits),
    }
