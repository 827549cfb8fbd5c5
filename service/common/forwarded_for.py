"""Whose request it is that a proxy passes on: the one reader of `X-Forwarded-For`."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_HOPS = 32
"""Addresses that are looked at, from the last on."""
_KNOWN = 4096
"""Answers that are kept: a client's requests say the same."""


class Proxies:
    """The networks whose word on a client's address is taken; of everybody else's header nothing is."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = tuple(networks)
        self.client = lru_cache(maxsize=_KNOWN)(self._client)
        """As _client."""

    def trusts(self, peer: str | None) -> bool:
        """Whether the connection's address is a proxy's."""
        address = _address(peer) if peer and self._networks else None
        return address is not None and self._is_proxy(address)

    def _client(self, peer: str, forwarded: str) -> str:
        """The client's address: the last in the header that is no proxy's, since each proxy adds whom it heard from.
        Where all are proxies', the first; where something else stands, whoever wrote that. `peer` is a proxy."""
        found = peer
        for text in reversed(forwarded.rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
            address = _address(text.strip(" \t"))
            if address is None:
                break
            found = str(address)
            if not self._is_proxy(address):
                break
        return found

    def _is_proxy(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


NOBODYS = Proxies()
"""Trusts nobody."""


def _address(text: str) -> Address | None:
    """An address, with or without a port; one of IPv4 within IPv6 is itself."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
