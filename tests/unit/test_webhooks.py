"""Webhooks: signatures, pauses between attempts, and permitted addresses."""

import json
import runpy
import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from service.server.requests.webhook_addresses import BadAddress, check_addresses, check_url, is_public
from service.server.requests.webhook_attempts import make_attempt
from service.server.requests.webhook_protocol import (
    GIVE_UP_S,
    compute_pause_s,
    format_secret,
    generate_secret,
    sign_event,
)
from tests.harness.plugin import require

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "service/console/static/console/assets"
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


def _check_in_python(requests: list[tuple[dict[str, str], str]], secret: str) -> list[bool]:
    is_genuine = runpy.run_path(str(ASSETS / "verify.py"))["is_genuine"]
    return [is_genuine(headers, body.encode(), secret) for headers, body in requests]


def _check_in_node(requests: list[tuple[dict[str, str], str]], secret: str) -> list[bool]:
    call = f"""import {{ isGenuine }} from "{ASSETS / "verify.mjs"}";
    const all = {json.dumps(requests)}.map(([headers, body]) => isGenuine(headers, Buffer.from(body), "{secret}"));
    console.log(JSON.stringify(all));"""
    command = [require("node"), "--input-type=module", "-e", call]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


@pytest.mark.parametrize(("file", "check"), [("verify.py", _check_in_python), ("verify.mjs", _check_in_node)])
def test_the_code_to_copy(file: str, check: Callable[..., list[bool]]) -> None:
    """The check that the console and the document show accepts what is signed, also during a rotation, and nothing
    forged, changed, old or without a header; both show the same text."""
    key, old, now_s, body = generate_secret(), generate_secret(), int(time.time()), '{"type":"é"}'

    def sign(*keys: bytes, at_s: int = now_s, **changed: str) -> dict[str, str]:
        signed = sign_event([*keys], "evt_1", at_s, body.encode())
        headers = {"webhook-id": "evt_1", "webhook-timestamp": str(at_s), "webhook-signature": signed}
        return headers | {f"webhook-{name}": value for name, value in changed.items()}

    good = [(sign(key), body), (sign(old, key), body), (sign(key, at_s=now_s - 200), body)]
    bad = [
        ({}, body), (sign(old), body), (sign(key), f"{body} "), (sign(key, id="evt_2"), body),
        (sign(key, at_s=now_s - 400), body), (sign(key, at_s=now_s + 400), body), (sign(key, timestamp="now"), body),
        (sign(key, timestamp=str(now_s - 1)), body), (sign(key, signature="v1, é"), body),
    ]  # fmt: skip
    assert check([*good, *bad], format_secret(key)) == [True] * len(good) + [False] * len(bad)
    assert (ASSETS / file).read_text("utf-8") in (ROOT / "docs/webhooks.md").read_text("utf-8")


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


@pytest.mark.parametrize(
    ("response", "shown"),
    [
        (b"", ""),
        ("höchstens 5\r\n\tx".encode(), "höchstens 5\n\tx"),
        (
            b"\x1b[2J\x00\x9b\r" + "\u202e\ufeff\u2028\u00a0".encode(),
            "\\x1b[2J\\x00\ufffd\\r\\u202e\\ufeff\\u2028\\xa0",
        ),
        (b"x" * 1_023 + "é".encode(), "x" * 1_023),
        (b"<b>user 1 has 1-2 of 11, 1.</b>", "<b>user {userId} has 1-2 of 11, {userId}.</b>"),
    ],
)
def test_responses_are_text(response: bytes, shown: str) -> None:
    """A response is cut at 1,024 bytes, what is not printable becomes an escape, and the event's user a placeholder."""
    attempt = make_attempt(1_795_166_100.1239, 0.0124, 200, None, response, b'{"data":{"userId":"1"}}')
    assert (attempt.at, attempt.milliseconds, attempt.response) == ("2026-11-20T09:15:00.123Z", 12, shown)
