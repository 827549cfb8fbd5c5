"""Issuers' public keys (JWKS): read from a file or a URL, with limits on time and size, and refreshed. wiring.py runs a
JwksRefresher for each issuer."""

import asyncio
import random
import time
from pathlib import Path

import aiohttp
import structlog

from service.common.http_client import fetch
from service.common.tracebacks import find_reason
from service.server.access.user_tokens import MAX_JWKS_BYTES, Issuer, Tokens, parse_jwks

FETCH_TIMEOUT_S = 5.0
"""Limit for the whole response."""
REFRESH_INTERVAL_S, FILE_REFRESH_INTERVAL_S = 300.0, 5.0
MISSING_KEY_INTERVAL_S = 10.0
"""Interval between reads while a key is missing: none is known, or a token names an unknown key."""
MAX_AGE_S = 3600.0
"""Age of the last successful read after which all keys are dropped: the issuer may have revoked them."""
POLL_S = 0.2

log = structlog.get_logger()


class JwksRefresher:
    """Refreshes the keys of one issuer.

    1. Read the keys from a URL every five minutes, from a file every five seconds, with 20 % of jitter.
    2. Read earlier if a token names an unknown key, or if no key is known, but at most every ten seconds.
    3. If a read fails, keep the known keys for an hour, then drop them.
    """

    def __init__(self, tokens: Tokens, issuer: Issuer, source: str) -> None:
        self._tokens, self._issuer, self._source = tokens, issuer, source
        self._every_s = REFRESH_INTERVAL_S if _is_url(source) else FILE_REFRESH_INTERVAL_S
        self._data = b""
        self._next_at = self._good_at = time.monotonic()
        self._read_at = -MISSING_KEY_INTERVAL_S
        self._failed = False

    async def run(self) -> None:
        while True:
            if self._is_due(time.monotonic()):
                await self.refresh()
            await asyncio.sleep(POLL_S)

    async def refresh(self) -> None:
        """Read the keys once. A failure is logged, not raised."""
        issuer = self._issuer
        self._read_at = now = time.monotonic()
        self._next_at = now + self._every_s * random.uniform(0.8, 1.2)  # noqa: S311, no secret
        issuer.has_unknown_key = False
        try:
            if _is_url(self._source):
                data = await fetch(self._source, FETCH_TIMEOUT_S, MAX_JWKS_BYTES)
            else:
                data = _read_file(Path(self._source))
            if data != self._data:
                issuer.keys, self._data = parse_jwks(data), data
                self._tokens.forget()
                log.info("jwks_read", issuer=issuer.issuer, keys=sorted(issuer.keys))
            self._good_at, self._failed = now, False
        except (OSError, ValueError, aiohttp.ClientError) as error:
            if not self._failed:
                log.warning("jwks_unreadable", issuer=issuer.issuer, reason=find_reason(error))
            self._failed = True
            if issuer.keys is not None and now - self._good_at > MAX_AGE_S:
                issuer.keys, self._data = None, b""
                self._tokens.forget()
                log.error("jwks_too_old", issuer=issuer.issuer)

    def _is_due(self, now: float) -> bool:
        if now >= self._next_at:
            return True
        return (
            self._issuer.has_unknown_key or self._issuer.keys is None
        ) and now >= self._read_at + MISSING_KEY_INTERVAL_S


def _is_url(source: str) -> bool:
    return "://" in source


def _read_file(path: Path) -> bytes:
    """Read a file of at most MAX_JWKS_BYTES. Raises OSError, ValueError."""
    with path.open("rb") as file:
        data = file.read(MAX_JWKS_BYTES + 1)
    if len(data) > MAX_JWKS_BYTES:
        raise ValueError("is too long")
    return data
