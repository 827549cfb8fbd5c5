"""A receiver is who its address names, or nothing is sent to it."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.worker.webhook_http import Poster, tls_context
from tests.tls import Authority

_NAME = "hooks.shop.example"


class _Server:
    """Takes whatever is posted, by TLS; `heard` is what came through."""

    def __init__(self) -> None:
        self.heard = b""
        self.asked_for: list[str | None] = []
        self.port = 0

    @asynccontextmanager
    async def listening(self, context: ssl.SSLContext) -> AsyncIterator["_Server"]:
        context.sni_callback = lambda _socket, name, _context: self.asked_for.append(name)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard += await reader.read(1 << 16)
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


async def _leads_here(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def _trusting(authority: Authority) -> ssl.SSLContext:
    context = tls_context()
    context.load_verify_locations(authority.file)
    return context


async def test_its_name_is_what_counts(tmp_path: Path) -> None:
    """The certificate is for the address's name, though the connection goes to a number; the name is asked for."""
    authority = Authority(tmp_path / "ca", _NAME)
    async with _Server().listening(authority.context) as server:
        url = f"https://{_NAME}:{server.port}/hook"
        posted = await Poster(url, _leads_here, True, _trusting(authority)).post({"webhook-id": "1"}, b"{}")
        assert (posted.status, posted.error) == (204, None)
        assert (server.asked_for, server.heard.startswith(b"POST /hook HTTP/1.1\r\n")) == ([_NAME], True)


@pytest.mark.parametrize(
    ("asked", "is_trusted"), [("other.shop.example", True), ("shop.example", True), ("127.0.0.1", True), (_NAME, False)]
)
async def test_whoever_else_answers_hears_nothing(tmp_path: Path, asked: str, is_trusted: bool) -> None:
    """A certificate for another name, or by an authority that nobody trusts: not a byte of the event is sent."""
    authority = Authority(tmp_path / "ca", _NAME)
    context = _trusting(authority) if is_trusted else tls_context()
    async with _Server().listening(authority.context) as server:
        posted = await Poster(f"https://{asked}:{server.port}/", _leads_here, True, context).post({}, b"secret")
        assert (posted.status, posted.error) == (None, "its certificate can't be verified")
        assert server.heard == b""


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_no_old_protocol(tmp_path: Path) -> None:
    """A receiver that has nothing newer than TLS 1.1 hears nothing."""
    authority = Authority(tmp_path / "ca", _NAME)
    old = authority.context
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with _Server().listening(old) as server:
        url = f"https://{_NAME}:{server.port}/"
        posted = await Poster(url, _leads_here, True, _trusting(authority)).post({}, b"{}")
        assert (posted.status, server.heard) == (None, b"")
