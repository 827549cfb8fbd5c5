"""Users' tokens: JWTs of an issuer that we were told of, for us, signed with a key of his, and within their time.

A token belongs to the workspace that its issuer and audience were told for, and its `sub` is a user, who may do what a
checkout does for that user alone. Nothing in a token says how it is verified: its algorithm is the one of the issuer's
key that it names.
"""

import base64
import hashlib
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Any, NamedTuple

import jwt
import msgspec

from service.access.caller import Caller
from service.access.roles import SCOPES_OF_USERS
from service.domain.errors import Refusal
from service.domain.field_types import is_caller_id

MAX_TOKEN_BYTES = 8 << 10
MAX_JWKS_BYTES = 256 << 10
MAX_KEYS = 100
"""Of an issuer."""
MAX_VERIFIED = 10_000
"""Tokens that are known to be good, by digest: verifying one takes 50 (RS256) to 100 µs."""
LEEWAY_S = 10
"""For an issuer's clock that is ahead of ours; a token's end is by ours."""
_RSA_BITS = range(2048, 8193)
_ALGORITHMS: dict[tuple[str, str | None], str] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
_TYPES = frozenset(("jwt", "at+jwt", "application/at+jwt"))
_ERRORS = (jwt.PyJWTError, msgspec.MsgspecError, ValueError, KeyError, RecursionError)

_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]


class Head(msgspec.Struct):
    """What a token says of how it was signed, as far as anybody believes it."""

    alg: str
    kid: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    typ: str = "JWT"
    crit: Any = msgspec.UNSET


class Claims(msgspec.Struct):
    """What a token says; all of it must be right."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: _Seconds
    nbf: _Seconds = 0
    iat: _Seconds = 0
    scope: str | None = None


class Jwks(msgspec.Struct):
    """A set of keys, each to be read by itself."""

    keys: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_KEYS)]


class Jwk(msgspec.Struct):
    """A key, as RFC 7517 has it."""

    kid: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    kty: str
    crv: str | None = None
    alg: str | None = None
    use: str = "sig"
    key_ops: list[str] = msgspec.field(default_factory=lambda: ["verify"])
    n: str | None = None
    e: str | None = None
    x: str | None = None
    y: str | None = None
    d: Any = msgspec.UNSET
    k: Any = msgspec.UNSET


class Key(NamedTuple):
    """A public key, and the one algorithm that it is for."""

    algorithm: str
    key: jwt.PyJWK


class Issuer:
    """An issuer and an audience, the workspace that their tokens belong to, and the issuer's keys."""

    def __init__(self, issuer: str, audience: str, workspace: str) -> None:
        self.issuer, self.audience, self.workspace = issuer, audience, workspace
        self.bearer: Caller | None = None
        """Who its tokens stand for, but for the user; None while there is no such workspace."""
        self.keys: dict[str, Key] | None = None
        """By their ids; None while they couldn't be read."""
        self.is_unknown_named = False
        """A token has named a key that isn't among them: there may be new ones."""


class Tokens:
    """Tells whom a token names."""

    def __init__(self, issuers: Iterable[Issuer] = ()) -> None:
        self.issuers = tuple(issuers)
        self._verified: dict[bytes, Caller] = {}

    def forget(self) -> None:
        """Verify every token again: an issuer's keys have changed."""
        self._verified.clear()

    def find(self, token: str) -> Caller:
        """Whom the token names. Refusal `unauthenticated`, or `unavailable` while its issuer's keys are unknown."""
        now_s = time.time()
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        found = self._verified.get(digest)
        if found is None:
            try:
                found = self._verify(token, now_s)
            except _ERRORS:
                raise Refusal("unauthenticated") from None
            if len(self._verified) >= MAX_VERIFIED:
                self._verified.clear()
            self._verified[digest] = found
        if found.expires_ms is None or found.expires_ms <= now_s * 1000:
            self._verified.pop(digest, None)
            raise Refusal("unauthenticated")
        return found

    def _verify(self, token: str, now_s: float) -> Caller:
        """Raises one of _ERRORS, or Refusal."""
        if len(token) > MAX_TOKEN_BYTES:
            raise ValueError("too long")
        head, payload, _ = token.split(".")
        said = _head.decode(_bytes(head))
        if said.typ.lower() not in _TYPES or said.crit is not msgspec.UNSET:
            raise ValueError("no access token")
        claims = _claims.decode(_bytes(payload))
        issuer = self._issuer(claims)
        if claims.exp <= now_s:
            raise ValueError("over")
        if issuer.keys is None:
            raise Refusal.passing("unavailable")
        key = issuer.keys.get(said.kid)
        if key is None:
            issuer.is_unknown_named = True
            raise ValueError("no such key")
        jwt.decode(
            token, key.key, algorithms=[key.algorithm], issuer=issuer.issuer, audience=issuer.audience,
            leeway=LEEWAY_S, options={"require": ["exp", "iss", "aud", "sub"]},
        )  # fmt: skip
        if issuer.bearer is None or not is_caller_id(claims.sub):
            raise ValueError("nobody")
        roles = frozenset(SCOPES_OF_USERS[scope] for scope in _scopes(claims) if scope in SCOPES_OF_USERS)
        return replace(issuer.bearer, user=claims.sub, scopes=roles, expires_ms=int(claims.exp * 1000))

    def _issuer(self, claims: Claims) -> Issuer:
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        (issuer,) = [one for one in self.issuers if one.issuer == claims.iss and one.audience in audiences]
        return issuer


def parse_jwks(data: bytes) -> dict[str, Key]:
    """The keys that tokens may be signed with, by their ids. Raises ValueError where there is none, or an id is there
    twice. Others are left out: of other kinds, too short, not public, not for signatures."""
    try:
        listed = msgspec.json.decode(data, type=Jwks).keys
    except (msgspec.MsgspecError, RecursionError):
        raise ValueError("is no JWKS, or a very long one") from None
    found: dict[str, Key] = {}
    for raw in listed:
        try:
            told = msgspec.json.decode(raw, type=Jwk)
            key = _key(told)
        except _ERRORS:
            continue
        if told.kid in found:
            raise ValueError("has two keys of one id")
        found[told.kid] = key
    if not found:
        raise ValueError("has no key that is good for RS256, ES256 or EdDSA")
    return found


def _key(told: Jwk) -> Key:
    """Raises one of _ERRORS."""
    algorithm = _ALGORITHMS[told.kty, told.crv]
    if told.alg not in (None, algorithm) or told.use != "sig" or "verify" not in told.key_ops:
        raise ValueError("for something else")
    if not told.d == told.k == msgspec.UNSET:
        raise ValueError("not public")
    parts = {name: value for name, value in msgspec.structs.asdict(told).items() if isinstance(value, str)}
    key = jwt.PyJWK(parts, algorithm)
    if algorithm == "RS256" and key.key.key_size not in _RSA_BITS:
        raise ValueError("too short, or very long")
    return Key(algorithm, key)


_head = msgspec.json.Decoder(Head)
_claims = msgspec.json.Decoder(Claims)


def _scopes(claims: Claims) -> list[str]:
    """What the issuer lets the token's bearer do; one that says nothing of it lets him do what a user may."""
    return ["checkout"] if claims.scope is None else claims.scope.split(" ")


def _bytes(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
