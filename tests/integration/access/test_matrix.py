"""Authorization: every operation with every kind of credential, through the fast lane and through Litestar.

Each request is valid: with a good key it succeeds in the end. Until then the service refuses it, reveals nothing, and
leaves the workspace unchanged in Redis and in Postgres.
"""

import asyncio
import secrets
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from service.engine.domain.times import to_datetime
from service.engine.operations.caller import SCOPES
from service.server.in_postgres.key_rows import create_key, revoke_key
from tests.harness.cases import WorkspaceSetup, filled
from tests.harness.described import Route
from tests.harness.routes.setup import make_quarantined, make_setup
from tests.harness.routes.table import ANYONE, ROUTES
from tests.harness.service_fixture import Service, database, new_id, refused
from tests.harness.serving import Served, make_issuers
from tests.harness.tokens import AUDIENCE, Idp, hmac_token, part
from tests.harness.waiting import PATIENCE_S, until
from tests.integration.schema import check_answer


class Environment(NamedTuple):
    """A server with an issuer, two workspaces, and the objects in the first."""

    service: Service
    rival: Service
    url: str
    idp: Idp
    setup: WorkspaceSetup
    document: dict[str, Any]

    def ask(self, route: Route, credential: str | bytes | None) -> httpx.Response:
        """Send the request with this header, and check its answer against the OpenAPI document."""
        headers: dict[str, Any] = {} if credential is None else {"Authorization": credential}
        address, body = filled(route.working, self.setup)
        answer = _client.request(route.method, self.url + address, json=body, headers=headers)
        check_answer(answer, route.name, self.document)
        return answer


_client = httpx.Client(timeout=PATIENCE_S, verify=False)


@pytest.fixture(scope="module", params=[True, False], ids=["fast lane", "Litestar"])
def env(service: Service, tmp_path_factory: pytest.TempPathFactory, request: Any) -> Iterator[Environment]:
    """Two new test workspaces, and a server that accepts users' tokens."""
    folder, idp = tmp_path_factory.mktemp("idp"), Idp()
    own, rival = (service.make_workspace(new_id(name), "test") for name in ("own", "rival"))
    asyncio.run(_make_ended_keys(own))
    issuers = make_issuers(folder, idp, {AUDIENCE: own.workspace, "rival": rival.workspace})
    with Served(service, folder, hot=request.param, jwt_issuers=issuers) as server:
        document = service.anonymous.get("/schema/openapi.json").json()
        setup = make_setup(own) | {"event": make_quarantined(own)}
        made = Environment(own, rival, server.url, idp, setup, document)
        ready = Route(name="GET /v1/users/{userId}", scopes="")
        until(lambda: made.ask(ready, f"Bearer {idp.token(sub=made.setup['ann'])}").is_success)
        until(lambda: made.ask(ready, f"Bearer {rival.workspace}_checkout").is_success)
        yield made
    asyncio.run(own.fetch("DELETE FROM quarantine"))


async def _make_ended_keys(own: Service) -> None:
    """Make a revoked key and an expired one."""
    async with database(own.run.facts["databaseUrl"]) as connection:
        row = await create_key(connection, own.number, "revoked", list(SCOPES), f"{own.workspace}_revoked")
        await revoke_key(connection, own.number, row.key_id)
        ended = to_datetime(int(time.time() * 1000) - 1000)
        await create_key(connection, own.number, "ended", list(SCOPES), f"{own.workspace}_ended", ended)


def _bad_credentials(env: Environment) -> Iterator[str | bytes | None]:
    """Invalid, revoked and expired credentials."""
    name, idp, ann = env.service.workspace, env.idp, env.setup["ann"]
    good = idp.token(sub=ann)
    yield from (None, "", "Bearer", f"Basic {name}_admin", f"{name}_admin", f"Bearer {name}_admi", "Bearer *")
    yield from (f"Bearer {name}_admin2", f"Bearer {name}_ADMIN", f"Bearer {name}_revoked", f"Bearer {name}_ended")
    yield from (f"Bearer scrip_test_{secrets.token_urlsafe(32)}", f"Bearer {name}_admin {name}_admin")
    yield from (f"Token {name}_admin", f"Bearer {name}_admin, Bearer {name}_admin", "Bearer %", b"Bearer \xff\xfe")
    yield "Bearer " + "x" * 5000
    claims = idp.claims(sub=ann)
    for token in (
        idp.token(sub=ann, exp=int(time.time()) - 1), idp.token(sub=ann, nbf=int(time.time()) + 3600),
        idp.token(sub=None),
        idp.token(sub=ann, aud="else"), idp.token(sub=ann, iss="https://else.example/"), Idp().token(sub=ann),
        f"{part({'alg': 'none', 'kid': 'ES256'})}.{part(claims)}.", f"{good[:-8]}AAAAAAAA",
        good.rsplit(".", 1)[0] + ".",
        idp.token("ES256", sub=ann, headers={"kid": "RS256"}), idp.token(sub=ann, headers={"crit": ["exp"]}),
        hmac_token({"alg": "HS256", "kid": "RS256"}, claims, idp.pem("RS256")),
        f"{part({'alg': 'ES256', 'kid': 'ES256'})}.{part(claims)}.{part(bytes(64))}", "a.b.c",
    ):  # fmt: skip
        yield f"Bearer {token}"


def _check_secrets(env: Environment, route: Route, answer: httpx.Response) -> None:
    """Check that a refusal contains no value of the setup, unless its request did."""
    sent = str(filled(route.working, env.setup))
    for name in ("book", "locked_token", "redemption", "job", "key", "assigned", "locked", "used", "ann"):
        secret = env.setup[name]
        assert secret not in answer.text or secret in sent, (route.name, answer.text)


def test_every_operation_is_listed(service: Service) -> None:
    """The table has exactly the operations of the OpenAPI document, with the credentials that the document names."""
    paths = service.anonymous.get("/schema/openapi.json").json()["paths"]
    routes: dict[str, set[str]] = {}
    for path, methods in paths.items():
        for method, operation in methods.items():
            ways = operation["security"]
            routes[f"{method.upper()} {path}"] = {way["key"][0] if "key" in way else "user" for way in ways}
    assert {route.name: set(route.scopes.split()) for route in ROUTES} == routes


def test_refused_credentials(env: Environment) -> None:
    """A bad credential, another scope, workspace or user gets nothing, learns nothing and changes nothing."""
    before, asked = env.service.held(), 0
    bad = list(_bad_credentials(env))
    stranger = f"Bearer {env.idp.token(sub=new_id())}"
    namesake = f"Bearer {env.idp.token(sub=env.setup['ann'], aud='rival')}"
    for route in ROUTES:
        if route.scopes == ANYONE:
            continue
        for credential in bad:
            answer = env.ask(route, credential)
            assert refused(answer, 401, "unauthenticated"), (route.name, credential)
            _check_secrets(env, route, answer)
        scopes = route.scopes.split()
        for of in (env.service, env.rival):
            for scope in set(SCOPES) - set(scopes):
                answer = env.ask(route, f"Bearer {of.workspace}_{scope}")
                assert refused(answer, 403, "forbidden"), (route.name, of.workspace, scope)
                _check_secrets(env, route, answer)
        for scope in set(SCOPES) & set(scopes):
            _ask_rival(env, route, f"Bearer {env.rival.workspace}_{scope}")
        answer = env.ask(route, stranger)
        expected = route.other if "user" in scopes else 403
        assert answer.status_code == expected, (route.name, "another user's token: see Route.other", answer.text)
        _check_secrets(env, route, answer)
        if route.name == "POST /v1/batch":
            assert {result["status"] for result in answer.json()["results"]} == {403}
        if "user" in scopes:
            _ask_rival(env, route, namesake)
        else:
            refused(env.ask(route, namesake), 403, "forbidden")
        asked += len(bad) + 2 * len(SCOPES) - len(set(SCOPES) & set(scopes)) + 2
    assert env.service.held() == before
    assert asked > 1500


def _ask_rival(env: Environment, route: Route, credential: str) -> None:
    """Send the request with another workspace's key of a right scope: it finds nothing of the first workspace."""
    answer = env.ask(route, credential)
    if route.another:
        assert refused(answer, 404, route.another), route.name
    else:
        assert answer.is_success or answer.status_code == 409, (route.name, answer.text)
    if route.name == "POST /v1/batch":
        assert [result["status"] for result in answer.json()["results"]] == [404, 404, 200, 404]
    _check_secrets(env, route, answer)


def test_accepted_credentials(env: Environment) -> None:
    """The same requests succeed with a good credential, with the documented answers."""
    setup, name = env.setup, env.service.workspace
    ann = f"Bearer {env.idp.token(sub=setup['ann'])}"
    for route in ROUTES:
        scopes = route.scopes.split()
        for scope in scopes:
            answer = env.ask(route, ann if scope == "user" else f"Bearer {name}_{scope}")
            # another scope's turn finds done what the first did: a coupon is used, a lock gone, a key revoked
            assert answer.status_code not in {401, 403}, (route.name, scope, answer.text)
            if scope == scopes[0]:
                assert answer.is_success, (route.name, scope, answer.text)
        if route.scopes == ANYONE:
            assert env.ask(route, None).is_success
