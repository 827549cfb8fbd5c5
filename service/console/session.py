"""The console's page and its sessions. The page uses the same API as any client. app.py registers the routes, also
those of the console's other modules, which are in no OpenAPI document and carry their roles in `opt`."""

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request, Response, Router, delete, get, post
from litestar.params import PathParameter

from service.console.charts import History
from service.console.flash_sale import Sales, is_demo
from service.console.overview import Overviews
from service.console.pages import asset_router, console_page, with_page_headers
from service.console.sign_in import begin, finish
from service.console.stocks import Stocks
from service.console.timelines import Timelines
from service.engine.domain import field_types
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import Answer
from service.engine.domain.times import Timestamp, from_ms
from service.engine.operations.caller import SCOPES
from service.engine.record.shared_pool import current_workspace
from service.server.answers.accounting import now_s
from service.server.api.auth import (
    OPEN,
    SESSION_COOKIE,
    authenticate,
    check_origin,
    csrf_token,
    session_cookie,
    set_actor,
)
from service.server.api.configuration_writes import settle_keys
from service.server.api.context import Context
from service.server.api.reading import JSON_BYTES, parse_query, read_chunks, read_json_body
from service.server.in_postgres.console_sessions import begin_session, end_session
from service.server.in_postgres.workspace_rows import read_workspace
from service.server.requests.cookies import read_cookie

OPERATORS = ("manage", "operate")
"""To sign in, a key needs one of these scopes."""
_MAX_BYTES = 4 << 10
_RECEIVER_ANSWERS = (204, 503, 410)
"""Accept, fail, or be gone."""


class SignIn(field_types.Request):
    """The key to sign in with. People sign in at their provider (sign_in.py)."""

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class Session(Answer, kw_only=True):
    """A session; the page sends `csrfToken` with each change."""

    workspace: str
    person: str | None
    """None for a session of a key."""
    workspace_id: UUID
    mode: Literal["live", "test"]
    currency: str
    scopes: list[str]
    csrf_token: str
    ends_at: Timestamp
    flash_sale: bool
    """Whether this is the demo's workspace, which can run a flash sale."""


@get("/", opt=OPEN)
async def console(request: Request[Any, Any, Any]) -> Response[str]:
    """The console page. No credentials: it asks for a key, or leads to the provider of its people."""
    context: Context = request.app.state.context
    return Response(console_page(len(context.settings.sign_in)), media_type="text/html")


@post("/", status_code=201)
async def sign_in(request: Request[Any, Any, Any]) -> Response[Session]:
    """Begin a session with a key with the scope `manage` or `operate`. All processes accept it after the response."""
    parse_query(request)
    check_origin(request)
    _, payload = await read_json_body(request, SignIn, _MAX_BYTES)
    context: Context = request.app.state.context
    caller = context.keyring.authenticate(f"Bearer {payload.key}", OPERATORS, now_s())
    current_workspace.set(caller.workspace)
    if caller.key_id is None:
        raise Refusal("forbidden", "Sign in with an API key, not with a user token.")
    set_actor(request, caller)
    secret = await begin_session(context.pool, caller.workspace, caller.key_id)
    await settle_keys(context)
    answer = Response(await _session(context, secret), status_code=201)
    answer.set_cookie(session_cookie(request, secret))
    return answer


@get("/")
async def read_session(request: Request[Any, Any, Any]) -> Response[Session | None]:
    """The session; 204 without one, which is not an error: the page requests this at each visit."""
    parse_query(request)
    try:
        return Response(await _session(request.app.state.context, read_cookie(request, SESSION_COOKIE)))
    except Refusal as refusal:
        if refusal.code != "unauthenticated":
            raise
        return Response(None, status_code=204)


@delete("/", status_code=204)
async def sign_out(request: Request[Any, Any, Any]) -> Response[None]:
    """End the session. No process accepts it after the response."""
    parse_query(request)
    if request.headers.get("authorization"):
        raise Refusal("malformed", "Only a session can sign out: send no Authorization header.")
    caller = authenticate(request, SCOPES)
    set_actor(request, caller)
    context: Context = request.app.state.context
    await end_session(context.pool, caller, read_cookie(request, SESSION_COOKIE))
    await settle_keys(context)
    answer: Response[None] = Response(None, status_code=204)
    answer.set_cookie(session_cookie(request, "", max_age=0))
    return answer


@post("/receiver/{status:int}", opt=OPEN)
async def receive(
    request: Request[Any, Any, Any], status: Annotated[int, PathParameter(description="The status to return.")]
) -> Response[bytes]:
    """Read and discard a webhook's delivery, and return the status in the address, which the console's page offers for
    tests. Only with the embedded database; in production a merchant has receivers."""
    parse_query(request)
    context: Context = request.app.state.context
    if not context.settings.embedded or status not in _RECEIVER_ANSWERS:
        raise Refusal("not_found")
    async for _ in read_chunks(request, JSON_BYTES):
        pass
    return Response(b"", status_code=status)


def console_pages() -> Router:
    """The route `/console`: page, files, sessions and data. The handlers of sessions authenticate by themselves."""
    sessions = Router("/session", route_handlers=[sign_in, read_session, sign_out], after_request=private, opt=OPEN)
    people = Router("/sign-in", route_handlers=[begin, finish], after_request=private, opt=OPEN)
    data = Router("/data", route_handlers=[Overviews, Stocks, History, Timelines, Sales], after_request=private)
    handlers = [console, asset_router("console"), sessions, people, data, receive]
    return Router("/console", route_handlers=handlers, after_request=with_page_headers, include_in_schema=False)


def private(response: Any) -> Any:
    """Add headers that forbid caches to store the response."""
    response.headers.update({"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})
    return response


async def _session(context: Context, secret: str) -> Session:
    caller = context.keyring.authenticate_session(secret, OPERATORS, now_s())
    row = await read_workspace(context.pool, caller.workspace)
    return Session.from_row(
        row,
        workspace=row.name,
        person=caller.person,
        scopes=[scope for scope in SCOPES if scope in caller.scopes],
        csrf_token=csrf_token(secret),
        ends_at=from_ms(caller.expires_ms or 0),
        flash_sale=is_demo(context, row.name),
    )
