"""A sender verifies the certificate of a receiver before it sends anything."""

import ssl
from pathlib import Path
from typing import Any, cast

import pytest

from service.worker.webhook_http import Poster, tls_context
from service.worker.webhook_sender import Sender
from tests.integration.webhooks.webhook_fixtures import Receiver
from tests.tls import Authority

_NAME = "hooks.shop.example"


async def _leads_here(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def _trusting(authority: Authority) -> ssl.SSLContext:
    context = tls_context()
    context.load_verify_locations(authority.file)
    return context


def test_a_sender_without_webhooks_reads_no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """To read them takes a tenth of a second, in which no other partition of the worker is opened."""
    monkeypatch.setattr(ssl, "create_default_context", lambda: pytest.fail("certificates are read"))
    Sender(cast("Any", None), partition=0, fence=1, to_loopback=False)


async def test_its_name_is_what_counts(tmp_path: Path) -> None:
    """The sender connects to a number, asks for the name of the URL by SNI, and verifies the certificate for it."""
    authority = Authority(tmp_path / "ca", _NAME)
    names: list[str | None] = []
    context = authority.context
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    async with Receiver().listening(context) as receiver:
        url = f"https://{_NAME}:{receiver.port}/hook"
        posted = await Poster(url, _leads_here, True, _trusting(authority)).post({"webhook-id": "1"}, b"{}")
    assert (posted.status, posted.error) == (204, None)
    assert (names, [got.path for got in receiver.got]) == ([_NAME], ["/hook"])


@pytest.mark.parametrize(
    ("name", "is_trusted"), [("other.shop.example", True), ("shop.example", True), ("127.0.0.1", True), (_NAME, False)]
)
async def test_no_byte_goes_to_another_server(tmp_path: Path, name: str, is_trusted: bool) -> None:
    """A certificate for another name, or of an unknown authority, ends the connection before any byte of the event."""
    authority = Authority(tmp_path / "ca", _NAME)
    context = _trusting(authority) if is_trusted else tls_context()
    async with Receiver().listening(authority.context) as receiver:
        posted = await Poster(f"https://{name}:{receiver.port}/", _leads_here, True, context).post({}, b"secret")
    assert (posted.status, posted.error) == (None, "its certificate can't be verified")
    assert receiver.connections == 0


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_no_old_protocol(tmp_path: Path) -> None:
    """A receiver that has nothing newer than TLS 1.1 gets nothing."""
    authority = Authority(tmp_path / "ca", _NAME)
    old = authority.context
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with Receiver().listening(old) as receiver:
        url = f"https://{_NAME}:{receiver.port}/"
        posted = await Poster(url, _leads_here, True, _trusting(authority)).post({}, b"{}")
    assert (posted.status, receiver.connections) == (None, 0)
