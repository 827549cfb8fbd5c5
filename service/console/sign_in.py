"""The routes by which people sign in to the console at their company's OpenID provider (people.py).
session.py registers them. They are visited by browsers, not requested by pages: each answers with a redirect."""

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import structlog
from litestar import Request, Response, get
from litestar.datastructures import Cookie

from service.common.config import SignIn
from service.engine.domain.errors import Refusal
from service.engine.domain.limits import address_counter
from service.server.access.people import (
    Metadata,
    Person,
    Reason,
    SignInRefused,
    find_provider,
    make_authorization_url,
    make_token_request,
    parse_metadata,
    read_person,
)
from service.server.access.user_tokens import MAX_JWKS_BYTES, parse_jwks
from service.server.api.auth import has_tls, session_cookie, set_origin
from service.server.api.bulk import Slots
from service.server.api.configuration_writes import settle_keys
from service.server.api.context import Context
from service.server.in_postgres.console_sessions import begin_session
from service.server.in_postgres.workspace_rows import workspace_named
from service.server.requests.cookies import read_cookie

MAX_AT_ONCE, OF_ONE_ADDRESS = 20, 4
"""Of a process, and of one client address: sign-ins that wait for the provider. More are refused at once."""
TIMEOUT_S = 5.0
"""Of each request to the provider."""
LIFE_S = 600
"""From the beginning of a sign-in to its end."""
MAX_REPLY_BYTES = MAX_JWKS_BYTES
"""Of each response of the provider."""
METADATA_S, FAILED_S = 300.0, 5.0
"""How long a provider's metadata, or the failure to fetch them, answer for further sign-ins."""
MAX_LINES = 10
"""Of the log in a minute, about refusals of one kind: anybody can cause them."""
_COOKIE, _PATH = "scrip_sign_in", "/console/sign-in"
_slots = Slots("sign-ins", MAX_AT_ONCE, OF_ONE_ADDRESS)
_salt = secrets.token_bytes(16)

log = structlog.get_logger()


class ProviderMetadata:
    """The metadata of providers. Strangers can begin sign-ins, so all that begin during a fetch share it."""

    def __init__(self, fetch: Callable[[SignIn], Awaitable[Metadata]]) -> None:
        self._fetch = fetch
        self._fetched: dict[str, tuple[float, asyncio.Future[Metadata]]] = {}

    async def find(self, provider: SignIn) -> Metadata:
        """Those of this provider. Raises SignInRefused."""
        at_s, fetched = self._fetched.get(provider.issuer, (0.0, None))
        has_failed = fetched is not None and fetched.done() and fetched.exception() is not None
        if fetched is None or time.monotonic() > at_s + (FAILED_S if has_failed else METADATA_S):
            fetched = asyncio.ensure_future(self._fetch(provider))
            self._fetched[provider.issuer] = time.monotonic(), fetched
        return await asyncio.shield(fetched)


class RefusalLog:
    """Logs refused sign-ins, of each kind MAX_LINES a minute. A kind is what the details of one cause begin with."""

    def __init__(self) -> None:
        self._minute = 0
        self._counts: Counter[str] = Counter()

    def add(self, refused: SignInRefused) -> None:
        minute = int(time.monotonic() // 60)
        left_out = 0
        if minute != self._minute:
            left_out = sum(max(0, count - MAX_LINES) for count in self._counts.values())
            self._minute, self._counts = minute, Counter()
        kind = refused.reason + refused.detail[:20]
        self._counts[kind] += 1
        if self._counts[kind] <= MAX_LINES:
            log.warning("sign_in_refused", reason=refused.reason, detail=refused.detail, left_out=left_out)


_refusals = RefusalLog()


@get("/")
async def begin(request: Request[Any, Any, Any]) -> Response[None]:
    """Lead the browser to the provider of `workspace`; it may be left out if there is only one."""
    providers = request.app.state.context.settings.sign_in
    workspace = request.query_params.get("workspace", "")
    chosen = [one for one in providers if one.workspace == workspace or (len(providers) == 1 and not workspace)]
    secret = secrets.token_urlsafe(32)
    try:
        if not chosen:
            raise SignInRefused("unknown", "no provider is set up for this workspace")
        metadata = await _metadata.find(chosen[0])
        url = make_authorization_url(chosen[0], metadata, secret, _redirect_uri(request))
    except SignInRefused as refused:
        return _refuse(request, refused)
    answer = _redirect(url)
    answer.set_cookie(_cookie(request, secret, LIFE_S))
    return answer


@get("/callback")
async def finish(request: Request[Any, Any, Any]) -> Response[None]:
    """The provider leads the browser here. Begin a session, and lead to the console."""
    context: Context = request.app.state.context
    query, secret = request.query_params, read_cookie(request, _COOKIE)
    try:
        provider = find_provider(context.settings.sign_in, secret, query.get("state", ""))
        if "code" not in query:
            reason: Reason = "no_role" if query.get("error") == "access_denied" else "failed"
            raise SignInRefused(reason, f"the provider refused: {query.get('error', '')[:100]}")
        with take_slot(request.client.host if request.client else None):
            person = await _fetch_person(provider, secret, query["code"], _redirect_uri(request))
        workspace = await workspace_named(context.pool, provider.workspace)
        if workspace is None:
            raise SignInRefused("unknown", f"the workspace {provider.workspace} does not exist")
    except SignInRefused as refused:
        return _refuse(request, refused)
    set_origin(request, "person", person=person.name)
    session = await begin_session(context.pool, workspace, person.name, person.scopes)
    await settle_keys(context)
    answer = _redirect("/console")
    answer.set_cookie(session_cookie(request, session))
    answer.set_cookie(_cookie(request, "", 0))
    return answer


@contextlib.contextmanager
def take_slot(address: str | None) -> Iterator[None]:
    """Occupy a slot of the client's address within the `with` block. Raises SignInRefused if none is free."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_slots.one(address_counter(address, _salt)))
        except Refusal:
            detail = f"{MAX_AT_ONCE} sign-ins, or {OF_ONE_ADDRESS} of this address, wait for the provider"
            raise SignInRefused("failed", detail) from None
        yield


async def _fetch_metadata(provider: SignIn) -> Metadata:
    issuer = provider.issuer
    return parse_metadata(await _fetch("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration"), issuer)


_metadata = ProviderMetadata(_fetch_metadata)


async def _fetch_person(provider: SignIn, secret: str, code: str, redirect_uri: str) -> Person:
    """The person of this code of the provider."""
    metadata = await _metadata.find(provider)
    headers, body = make_token_request(provider, metadata, secret, code, redirect_uri)
    reply = await _fetch("POST", metadata.token_endpoint, headers, body)
    try:
        keys = parse_jwks(await _fetch("GET", metadata.jwks_uri))
    except ValueError as error:
        raise SignInRefused("failed", f"the provider's key set {error}") from None
    return read_person(provider, metadata.issuer, keys, secret, reply)


async def _fetch(method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> bytes:
    """The body of the provider's response. Raises SignInRefused."""
    from aiohttp import ClientError  # 9 MB, and a tenth of a second to import

    from service.common.http_client import fetch

    try:
        return await fetch(url, TIMEOUT_S, MAX_REPLY_BYTES, method, headers, body)
    except ValueError as error:
        raise SignInRefused("failed", f"{method} {url[:200]}: {error}") from None
    except (OSError, ClientError) as error:
        raise SignInRefused("failed", f"{method} {url[:200]}: no answer, {type(error).__name__}") from None


def _refuse(request: Request[Any, Any, Any], refused: SignInRefused) -> Response[None]:
    _refusals.add(refused)
    answer = _redirect(f"/console?{urlencode({'refused': refused.reason})}")
    answer.set_cookie(_cookie(request, "", 0))
    return answer


def _redirect(url: str) -> Response[None]:
    return Response(None, status_code=303, headers={"Location": url})


def _redirect_uri(request: Request[Any, Any, Any]) -> str:
    """The address of `finish`, as browsers reach it; the provider's administrator has registered it."""
    scheme = "https" if has_tls(request) else "http"
    return f"{scheme}://{request.headers.get('host', '')}{_PATH}/callback"


def _cookie(request: Request[Any, Any, Any], secret: str, max_age: int) -> Cookie:
    """The cookie of a sign-in. `lax`: the provider's page leads back."""
    is_secure = has_tls(request)
    return Cookie(_COOKIE, _PATH, secret, max_age=max_age, secure=is_secure, httponly=True, samesite="lax")
