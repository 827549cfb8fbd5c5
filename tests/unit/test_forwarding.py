"""The client's address behind proxies."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.common.forwarded_for import MAX_HOPS, Proxies

_PROXIES = Proxies([ipaddress.ip_network(text) for text in ("10.0.0.0/8", "fd00::/8", "127.0.0.1/32")])


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.1.1.1", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.1.1.1, 10.2.2.2", "203.0.113.9"),
        ("10.3.3.3, 10.1.1.1", "10.3.3.3"),
        ("203.0.113.9:4711, 10.1.1.1:80", "203.0.113.9"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8::1,fd00::7", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("203.0.113.9, unknown", "10.9.9.9"),
        ("203.0.113.9, unknown, 10.1.1.1", "10.1.1.1"),
        ("203.0.113.9,", "10.9.9.9"),
        ("", "10.9.9.9"),
        ("0xCB007109", "10.9.9.9"),
        ("203.0.113", "10.9.9.9"),
        ("203.0.113.9 10.1.1.1", "10.9.9.9"),
        ("1.2.3.4, " * 1000 + "203.0.113.9", "203.0.113.9"),
        ("203.0.113.9" + ", 10.1.1.1" * (MAX_HOPS - 1), "203.0.113.9"),
        ("203.0.113.9" + ", 10.1.1.1" * 1000, "10.1.1.1"),
    ],
)
def test_the_last_that_is_no_proxy(forwarded: str, client: str) -> None:
    """The client is the last address that is no proxy's; any client may have written the addresses before it."""
    assert _PROXIES.client("10.9.9.9", forwarded) == client


@given(st.lists(st.ip_addresses(), max_size=5), st.ip_addresses(), st.integers(0, 3))
def test_what_a_client_writes_changes_nothing(written: list[object], client: object, hops: int) -> None:
    """No text that a client writes into the header changes the address that the proxies report."""
    proxies = Proxies([ipaddress.ip_network("10.0.0.0/8")])
    trusted = [str(client), *["10.0.0.1"] * hops]
    before = proxies.client("10.9.9.9", ", ".join(trusted))
    if not proxies.trusts(str(client)):
        assert proxies.client("10.9.9.9", ", ".join([*map(str, written), *trusted])) == before


def test_trusted_proxies() -> None:
    """Only an address within the networks is a proxy; without networks none is."""
    assert [_PROXIES.trusts(peer) for peer in ("10.9.9.9", "::ffff:10.9.9.9", "127.0.0.1", "fd12::1")] == [True] * 4
    assert [_PROXIES.trusts(peer) for peer in ("11.0.0.1", "127.0.0.2", "::1", "", None, "x")] == [False] * 6
    assert not Proxies().trusts("127.0.0.1")
