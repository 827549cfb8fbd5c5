"""Issuers' keys: read within bounds, taken back when the issuer takes them back, and asked for no more than needed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.access.user_tokens import MAX_JWKS_BYTES, Issuer, Tokens
from service.domain.errors import Refusal
from service.serving import jwks
from service.serving.jwks import JwksRefresher
from tests.tokens import AUDIENCE, ISSUER, Idp
from tests.unit.test_tokens import BEARER

IDP = Idp()


def _fresh(source: str) -> tuple[Tokens, JwksRefresher]:
    issuer = Issuer(ISSUER, AUDIENCE, "shop")
    issuer.bearer = BEARER
    tokens = Tokens([issuer])
    return tokens, JwksRefresher(tokens, issuer, source)


def _takes(tokens: Tokens, token: str) -> bool:
    try:
        return tokens.authenticate(token).user == "ann"
    except Refusal:
        return False


@asynccontextmanager
async def _serving(answer: Callable[[], bytes], *, slowly_s: float = 0.0) -> AsyncIterator[tuple[str, list[bytes]]]:
    """An address that answers with these bytes, and what it was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        data = answer()
        try:
            for start in range(0, len(data), 1 << 16):
                writer.write(data[start : start + (1 << 16)])
                await writer.drain()
                await asyncio.sleep(slowly_s)
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys?of=us", asked


def _ok(body: bytes, head: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode() + body


async def test_a_file(tmp_path: Path) -> None:
    """Keys of a file are taken as they are by now; while it can't be read those that are known go on."""
    path = tmp_path / "jwks.json"
    tokens, fresh = _fresh(str(path))
    token, other = IDP.token("ES256"), IDP.token("EdDSA")
    with pytest.raises(Refusal, match="unavailable"):
        tokens.authenticate(token)
    await fresh.refresh()
    with pytest.raises(Refusal, match="unavailable"):
        tokens.authenticate(token)
    path.write_bytes(IDP.jwks("ES256"))
    await fresh.refresh()
    assert (_takes(tokens, token), _takes(tokens, other)) == (True, False)
    path.write_bytes(IDP.jwks("EdDSA"))
    await fresh.refresh()
    assert (_takes(tokens, token), _takes(tokens, other)) == (False, True)
    for bad in (b"", b"{", b'{"keys": []}', b" " * (MAX_JWKS_BYTES + 1)):
        path.write_bytes(bad)
        await fresh.refresh()
        assert _takes(tokens, other)


async def test_an_address() -> None:
    """One request, for no more than the keys; whole or chunked, the answer is read."""
    body = IDP.jwks()
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    for answer in (_ok(body), chunked):
        async with _serving(lambda answer=answer: answer) as (address, asked):
            tokens, fresh = _fresh(address)
            await fresh.refresh()
            assert _takes(tokens, IDP.token())
            assert len(asked) == 1
            assert asked[0].startswith(b"GET /keys?of=us HTTP/1.1\r\nHost: 127.0.0.1:")


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
    """Nothing but a whole answer of 200 within the bounds is taken for keys, and no redirect is followed."""
    async with _serving(lambda: answer) as (address, asked):
        tokens, fresh = _fresh(address)
        await fresh.refresh()
        assert tokens.issuers[0].keys is None
        assert len(asked) == 1


async def test_an_address_that_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that drips in is given up in time."""
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT_S", 0.3)
    big = _ok(b" " * (MAX_JWKS_BYTES - 1000))
    async with _serving(lambda: big, slowly_s=1.0) as (address, _):
        tokens, fresh = _fresh(address)
        async with asyncio.timeout(30):
            await fresh.refresh()
        assert tokens.issuers[0].keys is None


async def test_when_it_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At once, then in time; sooner for a key that isn't known, but not as often as tokens name one."""
    now = 1000.0
    monkeypatch.setattr(jwks.time, "monotonic", lambda: now)
    path = tmp_path / "jwks.json"
    path.write_bytes(IDP.jwks("ES256"))
    tokens, fresh = _fresh(str(path))
    fresh._every_s = jwks.REFRESH_INTERVAL_S
    assert fresh._is_due(now)
    await fresh.refresh()
    assert not fresh._is_due(now + jwks.REFRESH_INTERVAL_S * 0.7)
    assert fresh._is_due(now + jwks.REFRESH_INTERVAL_S * 1.2)
    assert not _takes(tokens, IDP.token("EdDSA"))
    assert not fresh._is_due(now + jwks.MISSING_KEY_INTERVAL_S - 1)
    assert fresh._is_due(now + jwks.MISSING_KEY_INTERVAL_S)
    path.unlink()
    now += jwks.MAX_AGE_S - 1
    await fresh.refresh()
    assert _takes(tokens, IDP.token())
    now += 2
    await fresh.refresh()
    assert tokens.issuers[0].keys is None
    path.write_bytes(IDP.jwks("ES256"))
    await fresh.refresh()
    assert _takes(tokens, IDP.token())
