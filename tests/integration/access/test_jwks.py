"""Issuers' keys: fetched within bounds, no more often than needed; removed when the issuer removes them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from service.engine.domain.errors import Refusal
from service.server.access.user_tokens import MAX_JWKS_BYTES, Issuer, Tokens
from service.serving import jwks
from service.serving.jwks import JwksRefresher
from tests.harness.tokens import AUDIENCE, ISSUER, Idp
from tests.harness.waiting import PATIENCE_S, elapse
from tests.unit.test_tokens import BEARER

IDP = Idp()


def _make_refresher(source: str) -> tuple[Tokens, JwksRefresher]:
    issuer = Issuer(ISSUER, AUDIENCE, "shop")
    issuer.bearer = BEARER
    tokens = Tokens([issuer])
    return tokens, JwksRefresher(tokens, issuer, source)


def _accepts(tokens: Tokens, token: str) -> bool:
    try:
        return tokens.authenticate(token).user == "ann"
    except Refusal:
        return False


@asynccontextmanager
async def _serving(answer: Callable[[], bytes], *, slowly_s: float = 0.0) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve these bytes; yield the address and the requests to it."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        data = answer()
        with suppress(OSError):
            for start in range(0, len(data), 1 << 16):
                writer.write(data[start : start + (1 << 16)])
                await writer.drain()
                await elapse(slowly_s, "the pace of a slow server")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys?of=us", requests


def _ok(body: bytes, head: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body


async def test_a_file(tmp_path: Path) -> None:
    """Keys are read from a file again and again; a missing or bad file leaves the known keys."""
    path = tmp_path / "jwks.json"
    tokens, refresher = _make_refresher(str(path))
    token, other = IDP.token("ES256"), IDP.token("EdDSA")
    with pytest.raises(Refusal, match="unavailable"):
        tokens.authenticate(token)
    await refresher.refresh()
    with pytest.raises(Refusal, match="unavailable"):
        tokens.authenticate(token)
    path.write_bytes(IDP.jwks("ES256"))
    await refresher.refresh()
    assert (_accepts(tokens, token), _accepts(tokens, other)) == (True, False)
    path.write_bytes(IDP.jwks("EdDSA"))
    await refresher.refresh()
    assert (_accepts(tokens, token), _accepts(tokens, other)) == (False, True)
    for bad in (b"", b"{", b'{"keys": []}', b" " * (MAX_JWKS_BYTES + 1)):
        path.write_bytes(bad)
        await refresher.refresh()
        assert _accepts(tokens, other)


async def test_an_address() -> None:
    """One GET fetches the keys; the response may be whole or chunked."""
    body = IDP.jwks()
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    for answer in (_ok(body), chunked):
        async with _serving(lambda answer=answer: answer) as (address, requests):
            tokens, refresher = _make_refresher(address)
            await refresher.refresh()
            assert _accepts(tokens, IDP.token())
            assert len(requests) == 1
            assert requests[0].startswith(b"GET /keys?of=us HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"garbage", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", _ok(IDP.jwks())[:-5], _ok(b"[" * 100_000),
        _ok(b"x" * (MAX_JWKS_BYTES + 1)), _ok(b"", "Content-Encoding: gzip\r\n"),
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=range(9),
)  # fmt: skip
async def test_a_bad_answer(answer: bytes) -> None:
    """Only a complete 200 response within the bounds is used as keys, and no redirect is followed."""
    async with _serving(lambda: answer) as (address, requests):
        tokens, refresher = _make_refresher(address)
        await refresher.refresh()
        assert tokens.issuers[0].keys is None
        assert len(requests) == (1 if answer else 2)  # aiohttp sends a GET again if the connection broke


async def test_an_address_that_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow response is given up after FETCH_TIMEOUT_S."""
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT_S", 0.3)
    big = _ok(b" " * (MAX_JWKS_BYTES - 1000))
    async with _serving(lambda: big, slowly_s=1.0) as (address, _):
        tokens, refresher = _make_refresher(address)
        async with asyncio.timeout(PATIENCE_S):
            await refresher.refresh()
        assert tokens.issuers[0].keys is None


async def test_when_it_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Read at once, each interval with jitter, sooner for an unknown key id; dropped MAX_AGE_S after a good read."""
    now = 1000.0
    monkeypatch.setattr(jwks, "time", SimpleNamespace(monotonic=lambda: now))
    path = tmp_path / "jwks.json"
    path.write_bytes(IDP.jwks("ES256"))
    tokens, refresher = _make_refresher(str(path))
    refresher._every_s = jwks.REFRESH_INTERVAL_S
    assert refresher._is_due(now)
    await refresher.refresh()
    assert not refresher._is_due(now + jwks.REFRESH_INTERVAL_S * 0.7)
    assert refresher._is_due(now + jwks.REFRESH_INTERVAL_S * 1.2)
    assert not _accepts(tokens, IDP.token("EdDSA"))
    assert not refresher._is_due(now + jwks.MISSING_KEY_INTERVAL_S - 1)
    assert refresher._is_due(now + jwks.MISSING_KEY_INTERVAL_S)
    path.unlink()
    now += jwks.MAX_AGE_S - 1
    await refresher.refresh()
    assert _accepts(tokens, IDP.token())
    now += 2
    await refresher.refresh()
    assert tokens.issuers[0].keys is None
    path.write_bytes(IDP.jwks("ES256"))
    await refresher.refresh()
    assert _accepts(tokens, IDP.token())
