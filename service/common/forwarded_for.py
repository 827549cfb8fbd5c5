"""Client addresses behind proxies: only this parses `X-Forwarded-For`, for request_middleware.py and routes.py."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_HOPS = 32
"""Addresses that are examined, counted from the last."""
_CACHED = 4096
"""Cached results: the header is the same for all requests of a client."""


class Proxies:
    """The networks of trusted proxies. The header is ignored in requests from other addresses."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = tuple(networks)
        self.client = lru_cache(maxsize=_CACHED)(self._find_client)

    def trusts(self, peer: str | None) -> bool:
        address = _parse_address(peer) if peer and self._networks else None
        return address is not None and self._is_proxy(address)

    def _find_client(self, peer: str, forwarded: str) -> str:
        """Return the client's address: the last in the header that is not a trusted proxy.

        Each proxy appends the address of its own peer. If all addresses are proxies, the first one is the client. An
        entry that is not an address ends the search; the entry after it, or else `peer`, is the client. `peer` must be
        a trusted proxy.
        """
        client = peer
        for text in reversed(forwarded.rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
            address = _parse_address(text.strip(" \t"))
            if address is None:
                break
            client = str(address)
            if not self._is_proxy(address):
                break
        return client

    def _is_proxy(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


NO_PROXIES = Proxies()


def _parse_address(text: str) -> Address | None:
    """Parse an address with or without a port; None if invalid. An IPv4-mapped IPv6 address becomes IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
