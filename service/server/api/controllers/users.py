"""Users: their limits of coupons, metadata, and deletion. app.py registers it; roles.py has the scope of each operation
id. user_eraser.py deletes."""

import asyncio
import time
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.params import PathParameter
from msgspec import UNSET, UnsetType

from service.engine.domain import field_types
from service.engine.domain.configuration import UserRow
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import ID_CHARACTERS, Answer, Count, Page, UserId, encode_metadata, is_caller_id
from service.engine.domain.times import Timestamp, from_ms
from service.engine.operations.caller import Caller, resolve_user
from service.server.api.configuration_writes import Change, check_open
from service.server.api.context import Context
from service.server.api.documented import describe_action, describe_route
from service.server.api.idempotency import ActionResult, run_once
from service.server.api.reading import Listing, decode_position, read_json_body, unpack_request
from service.server.in_postgres.user_deletion import begin_erasure, is_erased
from service.server.in_postgres.user_rows import create_user, page_users, patch_user, read_user
from service.server.in_postgres.workspace_rows import read_workspace
from service.server.requests import page_cursors

BARRIER_MS = 2000
"""How long a deletion waits until all earlier events are recorded."""
ERASED_S = 25.0
"""How long a deletion is waited for."""
ASK_S = 0.05
UserIdPath = Annotated[str, PathParameter(name="userId", description="The user's id, which the client chose.")]

_EXAMPLE = {
    "userId": "user-42",
    "maxCoupons": 5,
    "coupons": 2,
    "metadata": {"tier": "gold"},
    "createdAt": "2026-11-20T09:14:00.123Z",
}


class CreateUser(field_types.Request, kw_only=True):
    """A user to create."""

    user_id: UserId
    max_coupons: Annotated[Count | None, msgspec.Meta(description="Null for the workspace's limit.")] = None
    metadata: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        encode_metadata(self.metadata)


class PatchUser(field_types.Request, kw_only=True):
    """Changes of a user; null resets a field."""

    max_coupons: Annotated[Count | UnsetType | None, msgspec.Meta(description="Null for the workspace's limit.")] = (
        UNSET
    )
    metadata: dict[str, Any] | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        encode_metadata(self.metadata or None)


class User(Answer, kw_only=True):
    """A user. `maxCoupons` is the user's own or the workspace's limit."""

    user_id: str
    max_coupons: int | None
    coupons: int
    metadata: dict[str, Any]
    created_at: Timestamp | None


class UserPage(Page[User]):
    """A page of users, newest first."""


class Users(Controller):
    path = "/v1/users"
    tags = ("Users",)

    @post(
        "/",
        **describe_action(
            "createUser",
            "Create a user",
            returns="The new user.",
            body=CreateUser,
            example={"userId": "user-42", "maxCoupons": 5, "metadata": {"tier": "gold"}},
            answer=_EXAMPLE,
            answers={200: (User, "The user exists and is unchanged.")},
            located=True,
            refusals="storage_full outcome_unknown",
        ),
    )
    async def create(self, request: Request[Any, Any, Any]) -> Response[User]:
        """Create a user. Scope `manage`."""
        caller, context, _ = unpack_request(request)
        body, payload = await read_json_body(request, CreateUser)
        change = Change(context, caller.partition)

        async def act() -> ActionResult[User]:
            wanted = (payload.user_id, payload.max_coupons, payload.metadata or {})
            row, new = await create_user(context.pool, caller.workspace, caller.partition, *wanted)
            await change.project(row.version, context.projector.user(row))
            user = await _render_user(context, caller, row.user_id, row, await _read_default(context, caller))
            return ActionResult(status=201 if new else 200, body=user, location=f"/v1/users/{row.user_id}")

        return await run_once(request, body, act, user=payload.user_id)

    @get("/", **describe_route("listUsers", "List users", returns="A page of users.", item=_EXAMPLE))
    async def page(self, request: Request[Any, Any, Any]) -> UserPage:
        """Created users, newest first. Scope `checkout` or `manage`."""
        caller, context, params = unpack_request(request, Listing)
        before = decode_position(params, page_cursors.USERS)
        rows = await page_users(context.pool, caller.workspace, params.limit + 1, before)
        default = await _read_default(context, caller)
        page = page_cursors.USERS.make_page(rows, params.limit, lambda placed: (placed[1],))
        items = await context.bulk.gather(
            caller.workspace,
            page.items,
            lambda placed: _render_user(context, caller, placed[0].user_id, placed[0], default),
        )
        return UserPage(items=items, next_cursor=page.next_cursor)

    @get(
        "/{userId:str}",
        **describe_route("getUser", "Read a user", returns="The user.", answer=_EXAMPLE, refusals="not_found"),
    )
    async def read(self, request: Request[Any, Any, Any], user_id: UserIdPath) -> User:
        """A user. One that was never created has the workspace's defaults. Scope `checkout` or `manage`."""
        caller, context, _ = unpack_request(request)
        check_user(caller, user_id)
        row = await read_user(context.pool, caller.workspace, user_id)
        return await _render_user(context, caller, user_id, row, await _read_default(context, caller))

    @patch(
        "/{userId:str}",
        **describe_route(
            "patchUser",
            "Change a user",
            returns="The changed user.",
            body=PatchUser,
            example={"maxCoupons": 10},
            answer=_EXAMPLE,
            refusals="not_found outcome_unknown",
        ),
    )
    async def change(self, request: Request[Any, Any, Any], user_id: UserIdPath) -> User:
        """Change a user's limit or metadata; creates a user that does not exist. Scope `manage`."""
        caller, context, _ = unpack_request(request)
        check_user(caller, user_id)
        _, payload = await read_json_body(request, PatchUser)
        change = Change(context, caller.partition)
        changes = payload.list_changes({"metadata": {}})
        row = await patch_user(context.pool, caller.workspace, caller.partition, user_id, changes)
        await change.project(row.version, context.projector.user(row))
        return await _render_user(context, caller, user_id, row, await _read_default(context, caller))

    @delete(
        "/{userId:str}",
        **describe_route(
            "deleteUser",
            "Delete a user's data",
            returns="The user's data is replaced or removed.",
            refusals="not_found behind outcome_unknown",
        ),
    )
    async def erase(self, request: Request[Any, Any, Any], user_id: UserIdPath) -> None:
        """Erase the user: replace the id with a pseudonym in all stored data, and remove IP addresses and user agents.
        Later requests with this id are of a new user. Scope `manage`."""
        caller, context, _ = unpack_request(request)
        check_user(caller, user_id)
        deadline = time.monotonic() + ERASED_S
        pseudonym = await _begin_erasure(context, caller, user_id)
        while not await is_erased(context.pool, caller.workspace, pseudonym):
            if time.monotonic() > deadline:  # the worker continues
                detail = "The deletion is still in progress; repeat the request to learn when it is complete."
                raise Refusal("outcome_unknown", detail, retry_after_ms=2000)
            await asyncio.sleep(ASK_S)


def check_user(caller: Caller, user_id: str) -> None:
    """Raise Refusal `not_found` for an invalid user id, `forbidden` if the caller's token is of another user."""
    resolve_user(caller, user_id)
    if not is_caller_id(user_id):
        raise Refusal("not_found", f"No user has this id: a user id has {ID_CHARACTERS}.")


async def _begin_erasure(context: Context, caller: Caller, user_id: str) -> str:
    """Order the deletion once everything up to now is recorded; return the pseudonym. Raises Refusal."""
    partition = caller.partition
    check_open(context, partition)
    last = await context.decider.read_tail(partition)
    if last.epoch < context.decider.epoch(partition):
        raise Refusal.temporary("recovering")
    if not await context.recorded.wait(partition, *last, BARRIER_MS):
        raise Refusal.temporary("behind")
    return await begin_erasure(context.pool, caller.workspace, partition, user_id, last)


async def _read_default(context: Context, caller: Caller) -> int | None:
    return (await read_workspace(context.pool, caller.workspace)).max_coupons


async def _render_user(
    context: Context, caller: Caller, user_id: str, row: UserRow | None, default: int | None
) -> User:
    return User(
        user_id=user_id,
        max_coupons=default if row is None or row.max_coupons is None else row.max_coupons,
        coupons=await context.hot.user_coupons(caller, user_id),
        metadata=row.metadata if row else {},
        created_at=from_ms(row.created_ms) if row else None,
    )
