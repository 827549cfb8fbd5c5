"""Pages of other origins: none may ask unless the settings name them."""

from collections.abc import Sequence

_EXPOSED = (
    b"X-Request-Id, Retry-After, Location, Idempotency-Replayed, Preference-Applied, Scrip-Lag-Seconds, RateLimit, "
    b"RateLimit-Policy"
)
_ASKED = b"Authorization, Content-Type, Idempotency-Key, Prefer, X-Request-Id"
_KEPT_S = b"600"

Headers = list[tuple[bytes, bytes]]


class Origins:
    """Which origins' pages may read answers. No cookie goes along (there is no
    Access-Control-Allow-Credentials): a page of another origin needs a key of its own, also where `*` is named."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._allowed = frozenset(origin.encode() for origin in allowed)
        self.some = bool(allowed)

    def headers(self, origin: bytes | None) -> Headers:
        """What an answer says to a page of this origin. What another hears differs, and caches are told so."""
        if not self.some or origin is None:
            return []
        if not (b"*" in self._allowed or origin in self._allowed):
            return [(b"vary", b"Origin")]
        return [
            (b"vary", b"Origin"),
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
        ]

    def preflight(self, origin: bytes | None, allow: bytes) -> Headers:
        """What more the answer to a browser's question says; `allow` are the address's methods."""
        headers = self.headers(origin)
        if len(headers) < 2:
            return headers
        return [
            *headers,
            (b"access-control-allow-methods", allow),
            (b"access-control-allow-headers", _ASKED),
            (b"access-control-max-age", _KEPT_S),
        ]


NO_ORIGINS = Origins()
