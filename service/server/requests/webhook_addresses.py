"""The addresses that a webhook may have: public ones only, none of the service's own network.

webhooks.py checks an address when it is set, and public_http.py checks it again when it connects.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

MAX_URL = 2048
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_url = re.compile(
    rf"https?://((?:{_LABEL}\.)*{_LABEL}|\[[0-9A-Fa-f:.]{{2,45}}\])(?::([0-9]{{1,5}}))?"
    r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@/%-]*)?(?:\?[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*)?"
).fullmatch
"""A strict form, so that no two parsers find different hosts: no user, no fragment, no escapes in the host."""

_NUMERIC = re.compile(r"(?:[0-9]+|0[xX][0-9A-Fa-f]*)").fullmatch
_OWN_NAMES = ("localhost", "local", "localdomain", "internal", "intranet", "lan", "home", "corp", "private", "arpa")
"""Last labels of names that are not on the public internet."""

_REJECTED_4 = list(
    map(
        ip_network,
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
        "192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 "
        "203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 168.63.129.16/32".split(),
    )
)
"""The last one is a cloud's metadata service, within a public range."""
_PUBLIC_6 = ip_network("2000::/3")
"""All other addresses are local, multicast, or contain an IPv4 address (`::ffff:`, `64:ff9b::`)."""
_REJECTED_6 = list(map(ip_network, "2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20".split()))
"""The first one has Teredo, benchmarks, and other protocols."""
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


class BadAddress(ValueError):
    """An address that a webhook may not have; the message gives the reason."""


def check_url(url: str, to_loopback: bool = False) -> None:
    """Raise BadAddress unless a webhook may have the URL; its host is not resolved.

    With `to_loopback` the host may also be this machine, over `http` too.
    """
    match = _url(url) if len(url) <= MAX_URL else None
    if match is None:
        raise BadAddress("must be https://, a host, and a path, without user, fragment or spaces")
    host, port = match[1].strip("[]").lower(), match[2]
    if port and not 1 <= int(port) <= 65535:
        raise BadAddress("must have a port from 1 to 65535")
    literal = _parse_ip(host)
    if not (to_loopback and (host == "localhost" or (literal and literal.is_loopback))):
        if not url.startswith("https://"):
            raise BadAddress("must begin with https://")
        _check_host(host)


def check_addresses(addresses: list[str], to_loopback: bool = False) -> None:
    """Raise BadAddress unless the host has addresses, and a delivery may connect to each."""
    if not addresses:
        raise BadAddress("has a host without an IP address")
    for address in addresses:
        if not (is_public(address) or (to_loopback and ip_address(address).is_loopback)):
            raise BadAddress("leads to an address that is not public")


def is_public(address: str) -> bool:
    """Whether an IP address, in any form that `ipaddress` parses, is on the public internet."""
    ip = _parse_ip(address)
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _REJECTED_4)
    return ip is not None and _is_public_6(ip)


def _parse_ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _is_public_6(ip: IPv6Address) -> bool:
    if ip.scope_id is not None or ip not in _PUBLIC_6 or any(ip in network for network in _REJECTED_6):
        return False
    return (int(ip) >> 32) & 0xFFFF_FFFF not in _ISATAP


def _check_host(host: str) -> None:
    """Raise BadAddress for a host that is not on the public internet."""
    if _parse_ip(host):
        if not is_public(host):
            raise BadAddress("leads to an address that is not public")
        return
    labels = host.split(".")
    if ":" in host or _NUMERIC(labels[-1]):
        raise BadAddress("must have a host that is a name, or an IP address in its usual form")
    if len(labels) < 2 or labels[-1] in _OWN_NAMES or len(host) > 253:
        raise BadAddress("must have a host of the public internet")
