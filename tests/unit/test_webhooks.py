"""Webhooks: signatures, pauses between attempts, and permitted addresses."""

import time
from itertools import pairwise

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.domain.webhook_addresses import BadAddress, check_addresses, check_url, is_public
from service.domain.webhook_protocol import GIVE_UP_S, compute_pause_s, format_secret, generate_secret, sign_event

PUBLIC = ("1.1.1.1", "8.8.8.8", "223.255.255.255", "100.63.255.255", "100.128.0.0", "172.32.0.1", "2606:4700::1111",
          "2a00:1450:4001::200e")  # fmt: skip
NOT_PUBLIC = (
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
    "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1",
    "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::7f00:1", "100::1", "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1",
    "fe80::1%lo", "fec0::1", "ff02::1", "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:7f00:1",
)  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    """A public address is permitted."""
    assert is_public(address)
    check_addresses([address])


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_other_addresses(address: str) -> None:
    """Any other address is refused, also beside a public one."""
    assert not is_public(address)
    with pytest.raises(BadAddress):
        check_addresses(["8.8.8.8", address])


def test_no_address() -> None:
    """A name without addresses is refused."""
    with pytest.raises(BadAddress):
        check_addresses([])


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/hook",
        "https://Shop.Example:8443?a=b%20c",
        "https://xn--bcher-kva.example",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]:444/x",
    ],
)
def test_permitted_urls(url: str) -> None:
    """A public host is permitted as a name in any case and as an address, with a port, a path and a query."""
    check_url(url)


def test_this_machine() -> None:
    """Addresses of this machine are permitted only by a setting, and then by http too."""
    for url in ("http://127.0.0.1:9000/x", "http://localhost/x", "https://[::1]/x", "https://localhost:1/"):
        check_url(url, to_loopback=True)
        with pytest.raises(BadAddress):
            check_url(url)
    for url in ("http://10.0.0.1/", "http://8.8.8.8/", "https://10.0.0.1/", "http://shop.example/"):
        with pytest.raises(BadAddress):
            check_url(url, to_loopback=True)
    check_addresses(["127.0.0.1", "::1"], to_loopback=True)
    for address in ("10.0.0.1", "169.254.169.254", "::ffff:127.0.0.1"):
        with pytest.raises(BadAddress):
            check_addresses([address], to_loopback=True)


def test_a_signature_verifies() -> None:
    """The receivers' library accepts a signature by either of two secrets; no changed, old or future message."""
    old, new, now_s, body = generate_secret(), generate_secret(), int(time.time()), b'{"type":"x"}'

    def headers(at_s: int) -> dict[str, str]:
        signed = sign_event([new, old], "evt_1", at_s, body)
        return {"webhook-id": "evt_1", "webhook-timestamp": str(at_s), "webhook-signature": signed}

    for secret in (old, new):
        assert Webhook(format_secret(secret)).verify(body, headers(now_s)) == {"type": "x"}
        bad = [
            (body + b" ", headers(now_s)),
            (body, headers(now_s) | {"webhook-id": "evt_2"}),
            (body, headers(now_s) | {"webhook-timestamp": str(now_s - 1)}),
            (body, headers(now_s - 400)),
            (body, headers(now_s + 400)),
        ]
        for message, sent_headers in bad:
            with pytest.raises(WebhookVerificationError):
                Webhook(format_secret(secret)).verify(message, sent_headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(format_secret(generate_secret())).verify(body, headers(now_s))


def test_pauses_grow_for_three_days() -> None:
    """Pauses grow to eight hours, each with 20 % of jitter; the last attempt is after three days."""
    age_s, pauses = 0.0, []
    while (pause := compute_pause_s(len(pauses) + 1, age_s)) is not None:
        pauses.append(pause)
        age_s += pause
    assert age_s == pytest.approx(GIVE_UP_S)
    assert 4 <= pauses[0] <= 6
    assert all(later > earlier for earlier, later in pairwise(pauses[:8]))
    assert max(pauses) <= 8 * 3600 * 1.2
    assert 15 <= len(pauses) <= 22
    assert len({compute_pause_s(1, 0) for _ in range(20)}) > 10


def test_a_receiver_may_ask_for_time() -> None:
    """Retry-After makes a pause longer, up to an hour, and never shorter."""
    assert compute_pause_s(1, 0, retry_after_s=600) == 600
    assert compute_pause_s(1, 0, retry_after_s=10**6) == 3600
    assert (compute_pause_s(6, 0, retry_after_s=1) or 0) > 2000
