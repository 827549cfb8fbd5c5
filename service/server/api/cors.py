"""CORS: pages of other origins may read responses only if the settings name the origin. request_middleware.py
calls this; if an origin is allowed, the fast lane leaves requests with `Origin` to Litestar (server.py). A new response
header that scripts should read belongs in `_EXPOSED`, a new request header in `_ASKED`."""

from collections.abc import Sequence

_EXPOSED = (
    b"X-Request-Id, Retry-After, Location, Idempotency-Replayed, Preference-Applied, Scrip-Lag-Seconds, "
    b"RateLimit, RateLimit-Policy"
)
_ASKED = b"Authorization, Content-Type, Idempotency-Key, Prefer, X-Request-Id"
_KEPT_S = b"600"

Headers = list[tuple[bytes, bytes]]


class Origins:
    """The origins whose pages may read responses. Browsers send no cookies with these requests (there is no
    Access-Control-Allow-Credentials), so a page of another origin needs its own key, also with `*`."""

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._allowed = frozenset(origin.encode() for origin in allowed)
        self.some = bool(allowed)

    def headers(self, origin: bytes | None) -> Headers:
        """The headers of a response to a page of this origin. They include `Vary`, since they differ by origin."""
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
        """The headers of the response to a preflight request; `allow` are the methods of the address."""
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
