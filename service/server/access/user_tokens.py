"""Verify user tokens, for keyring.py: JWTs that a configured issuer signs for one of its users. jwks.py fetches its
keys.

The settings map each issuer and audience to a workspace. The `sub` claim is the user; the caller acts for that
user only, with the roles of `scope` (USER_TOKEN_ROLES). The algorithm comes from the issuer's key that `kid` names,
never from the token.
"""

import base64
import hashlib
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec

from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import is_caller_id
from service.engine.operations.caller import Caller
from service.server.access.roles import USER_TOKEN_ROLES

if TYPE_CHECKING:
    from jwt import PyJWK

MAX_TOKEN_BYTES = 8 << 10
MAX_JWKS_BYTES = 256 << 10
MAX_KEYS = 100
"""Of one issuer."""
MAX_VERIFIED = 10_000
"""Size of the cache of verified tokens, by digest: to verify one takes 50 (RS256) to 100 µs."""
LEEWAY_S = 10
"""Tolerance for an issuer's clock that is ahead of ours (`nbf`, `iat`). `exp` has no tolerance."""
_RSA_BITS = range(2048, 8193)
_ALGORITHMS: dict[tuple[str, str | None], str] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
_TYPES = frozenset(("jwt", "at+jwt", "application/at+jwt"))
ERRORS = (msgspec.MsgspecError, ValueError, KeyError, RecursionError)
"""What reading a token may raise."""

_ASK_AGAIN = "Get a new token from its issuer, and send it as `Authorization: Bearer …`."
_UNUSABLE = "can't be verified: it is not a JWT that its issuer signed for this service"

_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]


class Header(msgspec.Struct):
    """A token's header. `alg` is required, and must be the algorithm of the key: PyJWT checks it."""

    alg: str
    kid: Annotated[str, msgspec.Meta(min_length=1, max_length=500)] | None = None
    typ: str = "JWT"
    crit: Any = msgspec.UNSET


class Claims(msgspec.Struct):
    """A token's claims; each is checked."""

    iss: str
    sub: str
    aud: str | list[str]
    exp: _Seconds
    nbf: _Seconds = 0
    iat: _Seconds = 0
    scope: str | None = None


_header = msgspec.json.Decoder(Header)
_claims = msgspec.json.Decoder(Claims)


class Jwks(msgspec.Struct):
    """A key set. Each key is decoded on its own, so that an unsuitable one does not reject the set."""

    keys: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_KEYS)]


class Jwk(msgspec.Struct):
    """A key by RFC 7517."""

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
    """A public key and its algorithm."""

    algorithm: str
    key: "PyJWK"


class Issuer:
    """An issuer and an audience, the workspace of their tokens, and the issuer's keys."""

    def __init__(self, issuer: str, audience: str, workspace: str) -> None:
        self.issuer, self.audience, self.workspace = issuer, audience, workspace
        self.bearer: Caller | None = None
        """The caller of its tokens, without the user and the scopes; None while the workspace does not exist."""
        self.keys: dict[str, Key] | None = None
        """By `kid`; None until they have been read once."""
        self.has_unknown_key = False
        """Whether a token has named an unknown key since the keys were read: the issuer may have new keys."""


class _BadToken(ValueError):
    """A token that is refused; the text says why, to its sender."""


class Tokens:
    """Authenticates user tokens, and caches the verified ones."""

    def __init__(self, issuers: Iterable[Issuer] = ()) -> None:
        self.issuers = tuple(issuers)
        self._verified: dict[bytes, Caller] = {}

    def forget(self) -> None:
        """Empty the cache, since an issuer's keys or `bearer` have changed."""
        self._verified.clear()

    def authenticate(self, token: str) -> Caller:
        """A token's caller. Raises Refusal `unauthenticated`, or `unavailable` until the issuer's keys are loaded."""
        now_s = time.time()
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        caller = self._verified.get(digest)
        if caller is None:
            try:
                caller = self._verify(token, now_s)
            except ERRORS as error:
                raise _refuse(str(error) if isinstance(error, _BadToken) else _UNUSABLE) from None
            if len(self._verified) >= MAX_VERIFIED:
                self._verified.clear()
            self._verified[digest] = caller
        if caller.expires_ms is None or caller.expires_ms <= now_s * 1000:
            self._verified.pop(digest, None)
            raise _refuse("has expired")
        return caller

    def _verify(self, token: str, now_s: float) -> Caller:
        """Raises one of ERRORS, or Refusal."""
        if len(token) > MAX_TOKEN_BYTES:
            raise ValueError("too long")
        encoded_header, payload, _ = token.split(".")
        header = decode_header(encoded_header)
        if header.kid is None or header.typ.lower() not in _TYPES:
            raise ValueError("names no key, or is no access token")
        claims = _claims.decode(_decode_base64url(payload))
        if claims.exp <= now_s:
            raise _BadToken("has expired")
        issuer = self._find_issuer(claims)
        if issuer.keys is None:
            raise Refusal.temporary("unavailable")
        key = issuer.keys.get(header.kid)
        if key is None:
            issuer.has_unknown_key = True
            raise ValueError("unknown key")
        verify_token(token, key, issuer.issuer, issuer.audience)
        if issuer.bearer is None or not is_caller_id(claims.sub):
            raise ValueError("unknown workspace, or `sub` is not a user id")
        scopes = ["checkout"] if claims.scope is None else claims.scope.split(" ")
        roles = frozenset(USER_TOKEN_ROLES[scope] for scope in scopes if scope in USER_TOKEN_ROLES)
        return replace(issuer.bearer, user=claims.sub, scopes=roles, expires_ms=int(claims.exp * 1000))

    def _find_issuer(self, claims: Claims) -> Issuer:
        """Raises _BadToken for an unknown issuer or audience."""
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        found = [one for one in self.issuers if one.issuer == claims.iss and one.audience in audiences]
        if len(found) != 1:
            raise _BadToken("has an `iss` and `aud` that this service does not accept")
        return found[0]


def parse_jwks(data: bytes) -> dict[str, Key]:
    """The signing keys of a key set, by `kid`. Skips keys of a wrong length, not public, not for signatures, or of
    another algorithm. Raises ValueError if no key remains, or two have one `kid`."""
    try:
        raw_keys = msgspec.json.decode(data, type=Jwks).keys
    except (msgspec.MsgspecError, RecursionError):
        raise ValueError(f"is not a JSON Web Key Set of at most {MAX_KEYS} keys") from None
    keys: dict[str, Key] = {}
    for raw in raw_keys:
        try:
            jwk = msgspec.json.decode(raw, type=Jwk)
            key = _load_key(jwk)
        except ERRORS:
            continue
        if jwk.kid in keys:
            raise ValueError("has two keys with the same `kid`")
        keys[jwk.kid] = key
    if not keys:
        raise ValueError("has no usable key for RS256, ES256 or EdDSA")
    return keys


def _load_key(jwk: Jwk) -> Key:
    """Raises one of ERRORS."""
    algorithm = _ALGORITHMS[jwk.kty, jwk.crv]
    if jwk.alg not in (None, algorithm) or jwk.use != "sig" or "verify" not in jwk.key_ops:
        raise ValueError("for another algorithm or use")
    if not jwk.d == jwk.k == msgspec.UNSET:
        raise ValueError("not public")
    parts = {name: value for name, value in msgspec.structs.asdict(jwk).items() if isinstance(value, str)}
    from jwt import PyJWK, PyJWTError

    try:
        key = PyJWK(parts, algorithm)
    except PyJWTError as error:
        raise ValueError("unusable") from error
    if algorithm == "RS256" and key.key.key_size not in _RSA_BITS:
        raise ValueError(f"not of {_RSA_BITS.start} to {_RSA_BITS.stop - 1} bits")
    return Key(algorithm, key)


def decode_header(encoded: str) -> Header:
    """A token's header, not verified. Raises one of ERRORS."""
    header = _header.decode(_decode_base64url(encoded))
    if header.crit is not msgspec.UNSET:
        raise ValueError("names an extension")
    return header


def verify_token(token: str, key: Key, issuer: str, audience: str) -> dict[str, Any]:
    """Check the signature, issuer, audience and times of a token, and return its claims. Raises ValueError."""
    # Imported here, since it takes a tenth of a process's start, and only an API with issuers needs it.
    from jwt import PyJWTError, decode

    try:
        return decode(
            token,
            key.key,
            algorithms=[key.algorithm],
            issuer=issuer,
            audience=audience,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iss", "aud", "sub"]},
        )
    except PyJWTError as error:
        raise ValueError("refused") from error


def _refuse(reason: str) -> Refusal:
    return Refusal("unauthenticated", f"The user token {reason}. {_ASK_AGAIN}")


def _decode_base64url(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
