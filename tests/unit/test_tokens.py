"""Users' tokens: the caller of a valid token, and refused tokens."""

import json
import random
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from service.engine.domain.errors import Refusal
from service.engine.operations.caller import Caller
from service.server.access import user_tokens as judged
from service.server.access.keyring import Keyring
from service.server.access.user_tokens import Issuer, Tokens, parse_jwks
from tests.harness.tokens import AUDIENCE, ISSUER, Idp, hmac_token, part

IDP = Idp()
BEARER = Caller(None, 3, UUID(int=3), 0, "live", frozenset())
FORGED = 10_000


def _tokens(jwks: bytes | None = None) -> Tokens:
    issuer = Issuer(ISSUER, AUDIENCE, "shop")
    issuer.bearer, issuer.keys = BEARER, parse_jwks(jwks or IDP.jwks())
    return Tokens([issuer])


TOKENS = _tokens()


def _refused(token: str, tokens: Tokens = TOKENS, code: str = "unauthenticated") -> None:
    with pytest.raises(Refusal) as caught:
        tokens.authenticate(token)
    assert caught.value.code == code, token


@pytest.mark.parametrize("algorithm", IDP.private)
def test_a_valid_token(algorithm: str) -> None:
    """A valid token authenticates its user in the issuer's workspace, until its end, with the role `user` only."""
    ends = int(time.time()) + 60
    caller = TOKENS.authenticate(IDP.token(algorithm, exp=ends))
    assert (caller.user, caller.workspace, caller.key_id, caller.expires_ms) == ("ann", 3, None, ends * 1000)
    assert caller.scopes == {"user"}
    assert caller.prefix == BEARER.prefix
    assert TOKENS.authenticate(IDP.token(algorithm, aud=["else", AUDIENCE], headers={"typ": "at+jwt"})).user == "ann"


@pytest.mark.parametrize(
    ("scope", "roles"),
    [
        (None, {"user"}),
        ("checkout", {"user"}),
        ("openid checkout email", {"user"}),
        ("public", {"public"}),
        ("public checkout", {"public", "user"}),
        ("", set()),
        ("openid", set()),
        ("manage operate admin user CHECKOUT checkout:all", set()),
    ],
)
def test_scopes(scope: str | None, roles: set[str]) -> None:
    """A token has at most the rights of a checkout; with a scope it has the rights of that scope only."""
    assert TOKENS.authenticate(IDP.token(scope=scope)).scopes == roles


def test_the_end_is_by_our_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is refused before its start and at its end, to the second, also when it was verified before."""
    now = int(time.time())
    token = IDP.token(exp=now + 100)
    assert TOKENS.authenticate(token).user == "ann"
    monkeypatch.setattr(judged.time, "time", lambda: now + 99.9)
    assert TOKENS.authenticate(token).user == "ann"
    monkeypatch.setattr(judged.time, "time", lambda: now + 100.0)
    _refused(token)
    monkeypatch.undo()
    for name in ("nbf", "iat"):
        assert TOKENS.authenticate(IDP.token(**_at(name, now + judged.LEEWAY_S - 2))).user == "ann"
        _refused(IDP.token(**_at(name, now + judged.LEEWAY_S + 30)))


def _at(name: str, value: Any) -> Any:
    return {name: value}


def _confused() -> Iterator[str]:
    """Tokens that name their own way of verification."""
    claims = IDP.claims()
    for name in ("none", "None", "NONE", "nOnE", "", "HS256", "RS512", "PS256", "ES384", "EdDSA ", None, 1, ["ES256"]):
        for signature in ("", part(b"\0" * 64)):
            yield f"{part({'alg': name, 'kid': 'ES256', 'typ': 'JWT'})}.{part(claims)}.{signature}"
    for algorithm in IDP.private:
        for secret in (IDP.pem(algorithm), IDP.jwks(algorithm), json.dumps(IDP.jwk(algorithm)).encode(), b""):
            for kid in IDP.private:
                yield hmac_token({"alg": "HS256", "kid": kid, "typ": "JWT"}, claims, secret)
        for other in IDP.private:
            if other != algorithm:
                yield IDP.token(algorithm, headers={"kid": other})


def _foreign() -> Iterator[str]:
    """Tokens that name another source of their key, or another type."""
    claims = IDP.claims()
    rogue = Idp()
    for algorithm in IDP.private:
        yield rogue.token(algorithm)
        for name, value in (
            ("jwk", rogue.jwk(algorithm)), ("jku", "http://127.0.0.1:1/jwks.json"), ("x5u", "http://127.0.0.1:1/"),
            ("x5c", ["AAAA"]),
        ):  # fmt: skip
            yield rogue.token(algorithm, headers={name: value})
        for kid in ("", "none", "../../dev/null", "ES256' OR '1'='1", "ES256\0", 5, None, "x" * 501):
            yield f"{part({'alg': algorithm, 'kid': kid})}.{part(claims)}.{IDP.token(algorithm).split('.')[2]}"
    for typ in ("secevent+jwt", "logout+jwt", "dpop+jwt", "JOSE", 1):
        yield f"{part({'alg': 'ES256', 'kid': 'ES256', 'typ': typ})}.{part(claims)}.{part(b'1' * 64)}"
    for signature in (b"", b"\0" * 64, b"\xff" * 64, b"\0" * 63 + b"\1"):  # zeros were good for a broken Java once
        yield f"{part({'alg': 'ES256', 'kid': 'ES256'})}.{part(claims)}.{part(signature)}"
    for headers in ({"crit": ["exp"]}, {"crit": []}, {"b64": False, "crit": ["b64"]}, {"typ": "dpop+jwt"}):
        yield IDP.token(headers=headers)


def _untrue() -> Iterator[str]:
    """Signed tokens with claims that are wrong, foreign or of a wrong type."""
    now = int(time.time())
    wrong: dict[str, tuple[Any, ...]] = {
        "iss": (None, "", "https://id.example", "https://ID.example/", "https://evil.example/", 5),
        "aud": (None, "", "scri", "scrip2", "SCRIP", [], ["else"], 5),
        "sub": (None, "", "a b", "a/b", "..", "é", "x" * 101, "a\n", "a%", 5, ["ann"]),
        "exp": (None, now - 1, 0, -1, True, "9999999999", "soon", 1e300, [now + 60]),
        "nbf": (now + 3600, "soon", -1),
        "iat": (now + 3600, "soon"),
        "scope": (5, ["checkout"], {"a": 1}),
    }
    for name, values in wrong.items():
        for value in values:
            for algorithm in IDP.private:
                # jwt.encode refuses some of these itself
                head = part({"alg": algorithm, "kid": algorithm})
                yield _sign(algorithm, f"{head}.{part(IDP.claims(**_at(name, value)))}")
    for payload in (b"", b"[]", b"null", b"5", b"{", b"\xff", b"[" * 5000, b'{"exp":NaN}', b'{"exp":Infinity}'):
        yield _sign("EdDSA", f"{part({'alg': 'EdDSA', 'kid': 'EdDSA'})}.{part(payload)}")
        yield _sign("EdDSA", f"{part(payload)}.{part(IDP.claims())}")
    yield IDP.token(pad="x" * judged.MAX_TOKEN_BYTES)


def _sign(algorithm: str, body: str) -> str:
    signer = jwt.get_algorithm_by_name(algorithm)
    return f"{body}.{part(signer.sign(body.encode(), IDP.private[algorithm]))}"


def _damaged(count: int) -> Iterator[str]:
    """Valid tokens with at least one changed character."""
    draw = random.Random(7)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \0é"
    for number in range(count):
        good = IDP.token(("ES256", "EdDSA")[number % 2], jti=str(number))
        while True:
            text = list(good)
            for _ in range(draw.choice((1, 1, 2, 5))):
                text[draw.randrange(len(text))] = draw.choice(alphabet)
            token = "".join(text)
            if _differs(token, good):
                break
        yield token
        if number % 10 == 0:
            head, payload, signature = good.split(".")
            yield from (f"{head}.{payload}.", f"{head}..{signature}", f".{payload}.{signature}", good[: len(good) // 2])
            yield from (f"{payload}.{head}.{signature}", f"{good}.", f".{good}", f"{good}AAAA", f"{good} x")


def _differs(token: str, good: str) -> bool:
    """Whether it is another token, not another spelling of the same bytes: the last character has bits left over."""
    try:
        read, expected = ([judged._decode_base64url(one) for one in text.split(".")] for text in (token, good))
        return read != expected
    except ValueError:
        return True


def test_ten_thousand_that_are_none() -> None:
    """The keyring refuses 10,000 forged, confused, damaged, foreign and expired tokens."""
    keyring = Keyring()
    keyring.tokens = TOKENS
    count = 0
    for token in (*_confused(), *_foreign(), *_untrue(), *_damaged(FORGED // 2)):
        _refused(token)
        with pytest.raises(Refusal, match="unauthenticated"):
            keyring.authenticate(f"Bearer {token}", ("user", "public", "checkout", "manage", "operate"), 0)
        count += 1
    assert count >= FORGED * 0.9, count


def test_whose_workspace_it_is() -> None:
    """Issuer and audience select the workspace; a shared key gives no access to another, nor does a token for two."""
    twin = Idp("https://twin.example/", "scrip")
    twin.private = IDP.private
    mine, other, theirs = (Issuer(*names) for names in (
        (ISSUER, AUDIENCE, "shop"), (ISSUER, "rival", "rival"), (twin.issuer, AUDIENCE, "third")))  # fmt: skip
    for number, issuer in enumerate((mine, other, theirs), 1):
        issuer.keys = parse_jwks(IDP.jwks())
        issuer.bearer = Caller(None, number, UUID(int=number), 0, "live", frozenset())
    tokens = Tokens([mine, other, theirs])
    workspaces = [tokens.authenticate(token).workspace for token in (IDP.token(), IDP.token(aud="rival"), twin.token())]
    assert workspaces == [1, 2, 3]
    _refused(IDP.token(aud=[AUDIENCE, "rival"]), tokens)
    theirs.keys = parse_jwks(Idp().jwks())
    tokens.forget()
    _refused(twin.token(), tokens)
    theirs.keys = None
    _refused(twin.token(), tokens, "unavailable")
    other.bearer = None
    _refused(IDP.token(aud="rival"), tokens)


def test_an_unknown_key_is_requested() -> None:
    """Only a token with an unknown key id makes the issuer's keys worth fetching again."""
    tokens = _tokens(jwks=IDP.jwks("ES256"))
    for bad in ("a.b.c", IDP.token(aud="x"), IDP.token(exp=1), Idp().token("ES256")):
        _refused(bad, tokens)
        assert not tokens.issuers[0].has_unknown_key
    _refused(IDP.token("EdDSA"), tokens)
    assert tokens.issuers[0].has_unknown_key


def test_verified_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bounded number of tokens is stored, by digest, and no longer than the keys that verified them."""
    monkeypatch.setattr(judged, "MAX_VERIFIED", 5)
    tokens = _tokens()
    made = [IDP.token(sub=f"u{number}") for number in range(12)]
    for token in made:
        tokens.authenticate(token)
    assert len(tokens._verified) <= 5
    assert not any(token in repr(tokens._verified) for token in made)
    tokens.issuers[0].keys = parse_jwks(Idp().jwks())
    tokens.forget()
    for token in made:
        _refused(token, tokens)


def test_usable_keys() -> None:
    """Only public signing keys of the three kinds and of a safe size are used from a set."""
    es = IDP.jwk("ES256")
    short = Idp()
    short.private["RS256"] = rsa.generate_private_key(65537, 1024)
    large = jwt.get_algorithm_by_name("ES384").to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key())
    private = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(IDP.private["ES256"]))
    bad: tuple[Any, ...] = (
        {"kty": "oct", "k": "AAAA", "kid": "a"}, {"kty": "oct", "k": "AAAA", "kid": "b", "alg": "HS256"},
        es | {"kid": ""},
        {name: value for name, value in es.items() if name != "kid"}, es | {"use": "enc"}, es | {"key_ops": ["sign"]},
        es | {"alg": "HS256"}, es | {"alg": "ES384"}, es | {"x": "AAAA"}, es | {"crv": "P-384"}, es | {"kty": "RSA"},
        private | {"kid": "ES256"}, short.jwk("RS256"), json.loads(large) | {"kid": "ES384"}, {}, [], None, 5, "ES256",
    )  # fmt: skip
    for one in bad:
        with pytest.raises(ValueError, match="no usable key"):
            parse_jwks(json.dumps({"keys": [one]}).encode())
    assert parse_jwks(json.dumps({"keys": [*bad, es]}).encode()).keys() == {"ES256"}
    assert {kid: key.algorithm for kid, key in parse_jwks(IDP.jwks()).items()} == {
        "RS256": "RS256", "ES256": "ES256", "EdDSA": "EdDSA",
    }  # fmt: skip
    many = json.dumps({"keys": [es | {"kid": str(number)} for number in range(judged.MAX_KEYS + 1)]}).encode()
    for data in (b"", b"{}", b"[]", b"[" * 100_000, b"\xff", b'{"keys": 5}', b'{"keys": []}', many):
        with pytest.raises(ValueError, match=r"is not a JSON Web Key Set|no usable key"):
            parse_jwks(data)
    with pytest.raises(ValueError, match="two keys"):
        parse_jwks(json.dumps({"keys": [es, es]}).encode())
