"""People who sign in to the console at their company's OpenID provider, by an authorization code with PKCE. sign_in.py
(of the console) sends the requests; nothing here waits.

A sign-in has one random secret, in a cookie of its browser: `state`, `nonce` and PKCE's verifier are digests of it, so
the service stores nothing before. A person has the name of a claim, `email` unless it is set, or else of `sub`; not
that of an e-mail address which the provider has not verified. The audit keeps the name.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlencode

import msgspec

from service.common.config import SignIn, is_safe_url
from service.engine.operations.caller import SCOPES
from service.server.access.user_tokens import ERRORS, MAX_TOKEN_BYTES, Key, decode_header, verify_token

EVERYBODY = "*"
MAX_NAME = 255
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]

Reason = Literal["ended", "failed", "no_role", "unknown"]
"""The sign-in did not begin in this browser, or too long ago; the provider failed; the person has no role; no provider
is set up for the workspace."""


class SignInRefused(Exception):
    """A sign-in that is refused. The console's page has a sentence for `reason`; the log has `detail`."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail


class Metadata(msgspec.Struct):
    """What a provider says of itself (OpenID Connect Discovery)."""

    issuer: _Text
    authorization_endpoint: _Text
    token_endpoint: _Text
    jwks_uri: _Text
    token_endpoint_auth_methods_supported: list[str] = msgspec.field(default_factory=lambda: ["client_secret_basic"])


class Person(NamedTuple):
    """Who has signed in."""

    name: str
    scopes: tuple[str, ...]


class _Tokens(msgspec.Struct):
    id_token: Annotated[str, msgspec.Meta(max_length=MAX_TOKEN_BYTES)]


class _Claims(msgspec.Struct):
    sub: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    nonce: str
    exp: float
    email_verified: bool | str = True
    azp: str | None = None


def parse_metadata(data: bytes, issuer: str) -> Metadata:
    """Raises SignInRefused."""
    try:
        metadata = msgspec.json.decode(data, type=Metadata)
    except (msgspec.MsgspecError, RecursionError):
        raise SignInRefused("failed", "the provider's metadata lack a field that is needed") from None
    if metadata.issuer.rstrip("/") != issuer.rstrip("/"):
        raise SignInRefused("failed", "the provider's metadata name another issuer")
    if not all(map(is_safe_url, (metadata.authorization_endpoint, metadata.token_endpoint, metadata.jwks_uri))):
        raise SignInRefused("failed", "the provider's metadata have an address without TLS")
    return metadata


def make_state(secret: str, workspace: str) -> str:
    return _digest(secret, f"state {workspace}")


def make_authorization_url(provider: SignIn, metadata: Metadata, secret: str, redirect_uri: str) -> str:
    """The provider's page on which the person signs in."""
    verifier = _digest(secret, "verifier").encode()
    query = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": redirect_uri,
        "scope": provider.scope,
        "state": make_state(secret, provider.workspace),
        "nonce": _digest(secret, "nonce"),
        "code_challenge": _encode(hashlib.sha256(verifier).digest()),
        "code_challenge_method": "S256",
    }
    joint = "&" if "?" in metadata.authorization_endpoint else "?"
    return f"{metadata.authorization_endpoint}{joint}{urlencode(query)}"


def find_provider(providers: Sequence[SignIn], secret: str, state: str) -> SignIn:
    """The provider at which this browser's sign-in began; without a cookie `secret` is ''. Raises SignInRefused."""
    for provider in providers if secret else ():
        if hmac.compare_digest(make_state(secret, provider.workspace).encode(), state.encode()):
            return provider
    raise SignInRefused("ended", "`state` is not of a sign-in of this browser")


def make_token_request(
    provider: SignIn, metadata: Metadata, secret: str, code: str, redirect_uri: str
) -> tuple[dict[str, str], bytes]:
    """The headers and the body of the request that exchanges the code for tokens."""
    body = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": _digest(secret, "verifier"),
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    if "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
        # Both parts are form-encoded first (RFC 6749, 2.3.1).
        pair = f"{urlencode({'': provider.client_id})[1:]}:{urlencode({'': provider.client_secret})[1:]}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        body |= {"client_id": provider.client_id, "client_secret": provider.client_secret}
    return headers, urlencode(body).encode()


def read_person(provider: SignIn, issuer: str, keys: Mapping[str, Key], secret: str, reply: bytes) -> Person:
    """The person of the reply to a token request; `issuer` is from the metadata. Raises SignInRefused."""
    try:
        token = msgspec.json.decode(reply, type=_Tokens).id_token
        kid = decode_header(token.partition(".")[0]).kid
        (key,) = [keys[kid]] if kid else keys.values()  # only a provider with one key may leave out its name
        claims = verify_token(token, key, issuer, provider.client_id)
        known = msgspec.convert(claims, _Claims)
        if known.exp <= time.time() or not hmac.compare_digest(known.nonce.encode(), _digest(secret, "nonce").encode()):
            raise ValueError("has expired, or is of another sign-in")
        is_alone = claims["aud"] in (provider.client_id, [provider.client_id])
        if known.azp != provider.client_id and not (known.azp is None and is_alone):
            raise ValueError("is for another client, too")
    except ERRORS as error:
        raise SignInRefused("failed", f"the ID token can't be verified: {type(error).__name__} {error}") from None
    names = _read_texts(claims, provider.name) if known.email_verified in (True, "true") else []
    name = names[0] if names else known.sub
    if len(name) > MAX_NAME or not name.isprintable():
        raise SignInRefused("failed", "the person's name is too long, or not printable")
    groups = _read_texts(claims, provider.claim)
    roles = {EVERYBODY, *groups} & provider.roles.keys()
    scopes = {scope for role in roles for scope in provider.roles[role]}
    if not scopes:
        found = ", ".join(groups)[:200] or "nothing"
        raise SignInRefused("no_role", f"the claim {provider.claim} has {found}, no role of {provider.workspace}")
    return Person(name, tuple(scope for scope in SCOPES if scope in scopes))


def _read_texts(claims: dict[str, Any], path: str) -> list[str]:
    """The texts of a claim. A claim may have dots in its name; else they lead into objects."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for name in path.split("."):
            found = found.get(name) if isinstance(found, dict) else None
    texts = [found] if isinstance(found, str) else found
    return [text for text in texts if text and isinstance(text, str)] if isinstance(texts, list) else []


def _digest(secret: str, purpose: str) -> str:
    """43 characters."""
    return _encode(hashlib.sha256(f"{purpose} {secret}".encode("utf-8", "replace")).digest())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
