"""Issuers' public keys, read from a file or an address, within bounds, and kept fresh."""

import asyncio
import random
import ssl
import time
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import httptools
import structlog

from service.access.user_tokens import MAX_JWKS_BYTES, Issuer, Tokens, parse_jwks

FETCH_S = 5.0
"""For a whole answer."""
REFRESH_S, FILE_REFRESH_S = 300.0, 5.0
SOONER_S = 10.0
"""Between two readings where keys are missing: none is known, or a token named one that isn't."""
STALE_S = 3600.0
"""Nobody knows any longer whether a key was taken back, so none is taken."""
LOOK_S = 0.2

log = structlog.get_logger()


class Fresh:
    """One for each issuer:

    1. Read the keys, and again every five minutes (a file every five seconds), a bit sooner or later each time.
    2. Sooner where a token names a key that isn't known, but not more often than every ten seconds.
    3. Where that fails, go on with the keys that are known, for an hour.
    """

    def __init__(self, tokens: Tokens, issuer: Issuer, source: str) -> None:
        self._tokens, self._issuer, self._source = tokens, issuer, source
        self._every_s = REFRESH_S if _is_address(source) else FILE_REFRESH_S
        self._data = b""
        self._next_at = self._good_at = time.monotonic()
        self._read_at = -SOONER_S
        self._failed = False

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            if self._is_due(time.monotonic()):
                await self.read()
            await asyncio.sleep(LOOK_S)

    async def read(self) -> None:
        """Read once."""
        issuer = self._issuer
        self._read_at = now = time.monotonic()
        self._next_at = now + self._every_s * random.uniform(0.8, 1.2)  # noqa: S311, no secret
        issuer.has_unknown_key = False
        try:
            data = await _fetched(self._source) if _is_address(self._source) else _read(Path(self._source))
            if data != self._data:
                issuer.keys, self._data = parse_jwks(data), data
                self._tokens.forget()
                log.info("jwks_read", issuer=issuer.issuer, keys=sorted(issuer.keys))
            self._good_at, self._failed = now, False
        except (OSError, ValueError, httptools.HttpParserError) as error:
            if not self._failed:
                log.warning("jwks_unreadable", issuer=issuer.issuer, reason=str(error) or type(error).__name__)
            self._failed = True
            if issuer.keys is not None and now - self._good_at > STALE_S:
                issuer.keys, self._data = None, b""
                self._tokens.forget()
                log.error("jwks_too_old", issuer=issuer.issuer)

    def _is_due(self, now: float) -> bool:
        if now >= self._next_at:
            return True
        return (self._issuer.has_unknown_key or self._issuer.keys is None) and now >= self._read_at + SOONER_S


class _Told:
    """What httptools says of an answer."""

    def __init__(self) -> None:
        self.body, self.is_whole = b"", False

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        self.is_whole = True


def _is_address(source: str) -> bool:
    return "://" in source


def _read(path: Path) -> bytes:
    """Raises OSError, and ValueError where it is too long."""
    with path.open("rb") as file:
        data = file.read(MAX_JWKS_BYTES + 1)
    if len(data) > MAX_JWKS_BYTES:
        raise ValueError("is too long")
    return data


async def _fetched(address: str) -> bytes:
    """The body that the address answers with, no redirect followed. Raises OSError, ValueError, HttpParserError."""
    parts = urlsplit(address)
    tls = _tls() if parts.scheme == "https" else None
    path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    told, size = _Told(), 0
    parser = httptools.HttpResponseParser(told)
    async with asyncio.timeout(FETCH_S):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or (443 if tls else 80), ssl=tls)
        try:
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: application/json\r\nUser-Agent: scrip\r\n"
                "Connection: close\r\n\r\n".encode("ascii")
            )
            while not told.is_whole and (part := await reader.read(1 << 16)):
                size += len(part)
                if size > MAX_JWKS_BYTES:
                    raise ValueError("is too long")
                parser.feed_data(part)
        finally:
            writer.close()
    if not told.is_whole or parser.get_status_code() != 200:
        raise ValueError(f"was not answered whole with 200, but with {parser.get_status_code()}")
    return told.body


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
