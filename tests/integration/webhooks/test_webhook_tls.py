"""A sender verifies the certificate of a receiver before it sends anything."""

import ssl
from contextlib import aclosing
from pathlib import Path

import pytest
from aiohttp import connector

from service.server.webhooks import public_http as webhook_http
from service.server.webhooks.public_http import Posted, Poster
from tests.harness.tls import Authority
from tests.integration.webhooks.webhook_fixtures import Receiver

_NAME = "hooks.shop.example"


@pytest.fixture(autouse=True)
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The only authority that senders trust. All names lead to this machine."""
    authority = Authority(tmp_path / "ca", _NAME)
    context = connector._make_ssl_context(verified=True)
    context.load_verify_locations(authority.file)
    monkeypatch.setattr(connector, "_SSL_CONTEXT_VERIFIED", context)
    monkeypatch.setattr(webhook_http, "_get_addresses", lambda host, port: ["127.0.0.1"])
    return authority


async def _post(url: str) -> Posted:
    async with aclosing(Poster(to_loopback=True)) as poster:
        return await poster.post(1, url, {"webhook-id": "1"}, b"secret")


async def test_its_name_is_what_counts(authority: Authority) -> None:
    """The sender connects to a number, asks for the name of the URL by SNI, and verifies the certificate for it."""
    names: list[str | None] = []
    context = authority.context
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    async with Receiver().listening(context) as receiver:
        posted = await _post(f"https://{_NAME}:{receiver.port}/hook")
    assert (posted.status, posted.error) == (204, None)
    assert (names, [got.path for got in receiver.got]) == ([_NAME], ["/hook"])
    assert receiver.got[0].headers["host"] == f"{_NAME}:{receiver.port}"


@pytest.mark.parametrize("name", ["other.shop.example", "shop.example", "127.0.0.1"])
async def test_no_byte_goes_to_another_name(authority: Authority, name: str) -> None:
    """A certificate for another name ends the connection before any byte of the event."""
    async with Receiver().listening(authority.context) as receiver:
        posted = await _post(f"https://{name}:{receiver.port}/")
    assert (posted.status, posted.error) == (None, "its certificate can't be verified")
    assert receiver.connections == 0


async def test_no_byte_goes_to_an_unknown_authority(tmp_path: Path) -> None:
    """A certificate of an unknown authority ends the connection before any byte of the event."""
    async with Receiver().listening(Authority(tmp_path / "unknown", _NAME).context) as receiver:
        posted = await _post(f"https://{_NAME}:{receiver.port}/")
    assert (posted.status, posted.error) == (None, "its certificate can't be verified")
    assert receiver.connections == 0


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_no_old_protocol(authority: Authority) -> None:
    """A receiver that has nothing newer than TLS 1.1 gets nothing."""
    old = authority.context
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with Receiver().listening(old) as receiver:
        posted = await _post(f"https://{_NAME}:{receiver.port}/")
    assert (posted.status, receiver.connections) == (None, 0)
    assert connector._SSL_CONTEXT_VERIFIED.minimum_version >= ssl.TLSVersion.TLSv1_2
