"""People's sign-in: what is sent to an OpenID provider, and which of its ID tokens name a person."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from service.common.config import SignIn
from service.server.access.people import (
    Person,
    SignInRefused,
    find_provider,
    make_authorization_url,
    make_state,
    make_token_request,
    parse_metadata,
    read_person,
)
from service.server.access.user_tokens import parse_jwks
from tests.harness.tokens import Idp, hmac_token

ISSUER, CLIENT, SECRET = "https://id.shop.example", "scrip console", "s" * 43
IDP = Idp(ISSUER, CLIENT)
KEYS = parse_jwks(IDP.jwks())
METADATA = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "jwks_uri": f"{ISSUER}/jwks",
}
MARKETING, OPERATORS = ("manage",), ("manage", "operate")


def make_provider(**more: Any) -> SignIn:
    roles = {"marketing": MARKETING, "operators": OPERATORS}
    fields: dict[str, Any] = {
        "issuer": ISSUER,
        "client_id": CLIENT,
        "client_secret": "a:b c",
        "workspace": "shop",
        "roles": roles,
    }
    return SignIn(**(fields | more))


def parse_own_metadata(**more: Any) -> Any:
    return parse_metadata(json.dumps(METADATA | more).encode(), ISSUER)


def read_query(provider: SignIn) -> dict[str, str]:
    url = make_authorization_url(provider, parse_own_metadata(), SECRET, "https://scrip.example/back")
    return {name: value for name, (value,) in parse_qs(urlsplit(url).query).items()}


def read(provider: SignIn | None = None, issuer: str = ISSUER, token: str | None = None, **claims: Any) -> Person:
    """The person of a token whose claims differ from a valid one's so."""
    provider = provider or make_provider()
    valid: dict[str, Any] = {"groups": ["marketing"], "email": "ada@shop.example", "email_verified": True}
    valid["nonce"] = read_query(provider)["nonce"]
    token = IDP.token(**(valid | claims)) if token is None else token
    return read_person(provider, issuer, KEYS, SECRET, json.dumps({"id_token": token, "access_token": "x"}).encode())


def test_the_requests_to_the_provider() -> None:
    """The page's address, and the exchange of the code, in both ways to show the client's secret."""
    provider = make_provider()
    query = read_query(provider)
    assert {name: query[name] for name in ("response_type", "client_id", "scope", "code_challenge_method")} == {
        "response_type": "code",
        "client_id": CLIENT,
        "scope": "openid email profile",
        "code_challenge_method": "S256",
    }
    assert query["redirect_uri"] == "https://scrip.example/back"
    assert len({query["state"], query["nonce"], query["code_challenge"], SECRET}) == 4
    assert "?prompt=login&" in make_authorization_url(
        provider, parse_own_metadata(authorization_endpoint=f"{ISSUER}/a?prompt=login"), SECRET, ""
    )
    headers, body = make_token_request(provider, parse_own_metadata(), SECRET, "c/1", "https://scrip.example/back")
    assert headers["Authorization"] == "Basic c2NyaXArY29uc29sZTphJTNBYitj"  # scrip+console:a%3Ab+c
    sent = parse_qs(body.decode())
    assert (sent["code"], sent["grant_type"]) == (["c/1"], ["authorization_code"])
    posting = parse_own_metadata(token_endpoint_auth_methods_supported=["client_secret_post"])
    headers, body = make_token_request(provider, posting, SECRET, "c", "")
    assert "Authorization" not in headers
    assert parse_qs(body.decode())["client_secret"] == ["a:b c"]


def test_a_sign_in_ends_where_it_began() -> None:
    """`state` finds the provider, in the browser that has its cookie."""
    providers = [make_provider(), make_provider(workspace="other")]
    state = read_query(providers[1])["state"]
    assert find_provider(providers, SECRET, state) is providers[1]
    known_to_all = make_state("", "shop")
    wrong_ones = (("t" * 43, state), (SECRET, ""), (SECRET, state[:-1]), ("", state), ("", known_to_all), (SECRET, "ä"))
    for secret, wrong in wrong_ones:
        with pytest.raises(SignInRefused, match="not of a sign-in of this browser"):
            find_provider(providers, secret, wrong)


@pytest.mark.parametrize(
    "more",
    [
        {"issuer": "https://other.example"},
        {"token_endpoint": None},
        {"token_endpoint": "http://id.shop.example/token"},
        {"jwks_uri": "https://user:password@id.shop.example/jwks"},
    ],
)
def test_metadata_that_are_refused(more: dict[str, Any]) -> None:
    with pytest.raises(SignInRefused) as refused:
        parse_own_metadata(**more)
    assert refused.value.reason == "failed"
    parse_own_metadata(issuer=f"{ISSUER}/")  # as some providers write it


def test_who_has_signed_in() -> None:
    """The name is a claim's, or the subject's; the scopes are those of all roles."""
    assert read() == Person("ada@shop.example", MARKETING)
    assert read(groups=["marketing", "operators", "others"]).scopes == OPERATORS
    assert read(groups="operators").scopes == OPERATORS
    assert read(aud=[CLIENT]).name == "ada@shop.example"
    assert read(aud=[CLIENT, "other"], azp=CLIENT).name == "ada@shop.example"
    for name, value in (("email_verified", False), ("email_verified", "false"), ("email", None), ("email", "")):
        assert read(None, ISSUER, None, **{name: value}).name == "ann"
    assert read(make_provider(name="upn"), upn="ada").name == "ada"
    nested = make_provider(claim="realm_access.roles", roles={"*": MARKETING, "boss": OPERATORS})
    assert read(nested, groups=None).scopes == MARKETING
    assert read(nested, realm_access={"roles": ["boss"]}).scopes == OPERATORS
    dotted = make_provider(claim="https://shop.example/roles")
    assert read(dotted, **{"https://shop.example/roles": ["operators"]}).scopes == OPERATORS


@pytest.mark.parametrize(
    "groups", [None, [], ["Marketing"], "marketing operators", 7, {"marketing": True}, [["marketing"]]]
)
def test_people_without_a_role(groups: Any) -> None:
    """The log says what the claim has, so that an operator can compare it with the setting."""
    with pytest.raises(SignInRefused) as refused:
        read(groups=groups)
    assert refused.value.reason == "no_role"
    found = {"['Marketing']": "Marketing", "marketing operators": "marketing operators"}.get(str(groups), "nothing")
    assert refused.value.detail == f"the claim groups has {found}, no role of shop"


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "of another sign-in"},
        {"nonce": None},
        {"aud": "another client"},
        {"aud": [CLIENT, "other"]},
        {"azp": "other"},
        {"iss": "https://other.example"},
        {"exp": 1},
        {"sub": None},
        {"sub": ""},
        {"email": "a" * 300},
        {"email": "ada\n@shop.example"},
        {"algorithm": "RS256", "headers": {"kid": "ES256"}},
        {"headers": {"kid": "unknown"}},
        {"headers": {"crit": ["exp"]}},
        {"token": "no.token.here"},
        {"token": ""},
    ],
)
def test_tokens_that_are_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(SignInRefused) as refused:
        read(**claims)
    assert refused.value.reason == "failed"


def test_a_key_without_a_name() -> None:
    """A token may name no key if its issuer has one."""
    provider = make_provider()
    claims = IDP.claims(nonce=read_query(provider)["nonce"], groups="marketing")
    reply = json.dumps({"id_token": jwt.encode(claims, IDP.private["ES256"], "ES256")}).encode()
    assert read_person(provider, ISSUER, parse_jwks(IDP.jwks("ES256")), SECRET, reply).name == "ann"
    with pytest.raises(SignInRefused):
        read_person(provider, ISSUER, KEYS, SECRET, reply)


def test_algorithms_that_need_no_key() -> None:
    """A token that is signed with the public key, or not at all, names no person."""
    claims = IDP.claims(nonce=read_query(make_provider())["nonce"], groups=["operators"])
    forged = hmac_token({"alg": "HS256", "kid": "RS256"}, claims, IDP.pem("RS256"))
    for token in (forged, hmac_token({"alg": "none", "kid": "RS256"}, claims, b"")):
        with pytest.raises(SignInRefused):
            read(token=token)
