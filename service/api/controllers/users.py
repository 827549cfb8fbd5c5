"""Users: their caps, and how many coupons they hold."""

import asyncio
import time
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.params import PathParameter
from msgspec import UNSET, UnsetType

from service.access.caller import Caller, own_user
from service.api.auth import caller
from service.api.configuration_writes import Change, check_open
from service.api.context import Context
from service.api.documented import documented
from service.api.idempotency import Answered, once
from service.api.reading import Listing, json_body, json_bytes, position, query
from service.domain import field_types
from service.domain.configuration import UserRow
from service.domain.decoding import decode
from service.domain.errors import Refusal
from service.domain.field_types import Answer, Count, UserId, is_caller_id, packed_metadata
from service.domain.times import ShownTime, from_ms
from service.formats import page_cursors
from service.record.config.user_rows import create_user, page_users, patch_user, read_user
from service.record.config.workspace_rows import read_workspace
from service.record.facts.user_deletion import begin_erasure, is_erased

METADATA_BYTES = 4096
BARRIER_MS = 2000
ERASED_S = 10.0
ASK_S = 0.05
UserIdPath = Annotated[str, PathParameter(name="userId", description="The caller's id of the user.")]

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
    max_coupons: Annotated[
        Count | None, msgspec.Meta(description="How many coupons it may hold; the workspace's where left out.")
    ] = None
    metadata: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        packed_metadata("metadata", self.metadata, METADATA_BYTES)


class PatchUser(field_types.Request, kw_only=True):
    """Changes of a user; null clears."""

    max_coupons: Count | UnsetType | None = UNSET
    metadata: dict[str, Any] | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        packed_metadata("metadata", self.metadata or None, METADATA_BYTES)


class User(Answer, kw_only=True):
    """A user; `maxCoupons` is the cap that holds, its own or the workspace's; one never created has no `createdAt`."""

    user_id: str
    max_coupons: int | None
    coupons: int
    metadata: dict[str, Any]
    created_at: ShownTime | None


class UserPage(Answer, kw_only=True):
    """A page of users, newest first."""

    items: list[User]
    next_cursor: str | None


class Users(Controller):
    """Users, as far as the merchant says anything of them."""

    path = "/v1/users"

    @post(
        "/",
        **documented(
            "createUser",
            "Create a user",
            "Users",
            body=CreateUser,
            example={"userId": "user-42", "maxCoupons": 5, "metadata": {"tier": "gold"}},
            answer=_EXAMPLE,
            answers={200: (User, "It was created before, and is as it was.")},
            located=True,
            refusals="outcome_unknown",
            idempotent=True,
        ),
    )
    async def create(self, request: Request[Any, Any, Any]) -> Response[User]:
        """Create a user. Scope `manage`."""
        who = caller(request)
        query(request)
        body = await json_bytes(request)
        said = decode(_create, body)
        context: Context = request.app.state.context
        change = Change(context, who.partition)

        async def act() -> Answered[User]:
            row, new = await create_user(
                context.pool, who.workspace, who.partition, said.user_id, said.max_coupons, said.metadata or {}
            )
            await change.projected(row.version, context.projector.user(row))
            user = await _answer(context, who, row.user_id, row, await _default(context, who))
            return Answered(status=201 if new else 200, body=user, location=f"/v1/users/{row.user_id}")

        return await once(request, who, body, act, user=said.user_id)

    @get(
        "/",
        **documented(
            "listUsers", "List users", "Users", query=Listing, answer={"items": [_EXAMPLE], "nextCursor": None}
        ),
    )
    async def page(self, request: Request[Any, Any, Any]) -> UserPage:
        """Users that were created, newest first. Scope `checkout` or `manage`."""
        who = caller(request)
        asked = query(request, Listing)
        context: Context = request.app.state.context
        rows = await page_users(context.pool, who.workspace, asked.limit + 1, position(asked, page_cursors.USERS))
        default = await _default(context, who)
        items = await asyncio.gather(
            *(_answer(context, who, row.user_id, row, default) for row, _ in rows[: asked.limit])
        )
        return UserPage(
            items=items, next_cursor=page_cursors.USERS.encode_next(rows, asked.limit, lambda placed: (placed[1],))
        )

    @get("/{userId:str}", **documented("getUser", "Read a user", "Users", answer=_EXAMPLE, refusals="not_found"))
    async def read(self, request: Request[Any, Any, Any], user_id: UserIdPath) -> User:
        """A user; one that was never created has the workspace's defaults. Scope `checkout` or `manage`."""
        who = caller(request)
        query(request)
        check_user(who, user_id)
        context: Context = request.app.state.context
        row = await read_user(context.pool, who.workspace, user_id)
        return await _answer(context, who, user_id, row, await _default(context, who))

    @patch(
        "/{userId:str}",
        **documented(
            "patchUser",
            "Change a user",
            "Users",
            body=PatchUser,
            example={"maxCoupons": 10},
            answer=_EXAMPLE,
            refusals="not_found outcome_unknown",
        ),
    )
    async def change(self, request: Request[Any, Any, Any], user_id: UserIdPath) -> User:
        """Change a user's cap or metadata; one that was never created is. Scope `manage`."""
        who = caller(request)
        query(request)
        check_user(who, user_id)
        said = await json_body(request, _patch)
        context: Context = request.app.state.context
        change = Change(context, who.partition)
        changes: dict[str, Any] = {}
        if said.max_coupons is not UNSET:
            changes["max_coupons"] = said.max_coupons
        if said.metadata is not UNSET:
            changes["metadata"] = said.metadata or {}
        row = await patch_user(context.pool, who.workspace, who.partition, user_id, changes)
        await change.projected(row.version, context.projector.user(row))
        return await _answer(context, who, user_id, row, await _default(context, who))

    @delete(
        "/{userId:str}",
        **documented("deleteUser", "Delete a user's data", "Users", refusals="not_found behind outcome_unknown"),
    )
    async def erase(self, request: Request[Any, Any, Any], user_id: UserIdPath) -> None:
        """Put a pseudonym for the user's id, and nothing for addresses and agents, in all that is kept. What the user
        does afterwards is a new user's. Scope `manage`."""
        who = caller(request)
        query(request)
        check_user(who, user_id)
        context: Context = request.app.state.context
        check_open(context, who.partition)
        last = await context.decider.tail(who.partition)
        if last.epoch != context.decider.epoch(who.partition):
            raise Refusal.passing("recovering")
        if not await context.recorded.wait(who.partition, *last, BARRIER_MS):
            raise Refusal.passing("behind")
        pseudonym = await begin_erasure(context.pool, who.workspace, who.partition, user_id, last)
        await _erased(context, who, pseudonym)


_create = msgspec.json.Decoder(CreateUser)
_patch = msgspec.json.Decoder(PatchUser)


def check_user(who: Caller, user_id: str) -> None:
    """Refusal `not_found` where this can't be a user's id, `forbidden` where the caller's token is for another."""
    own_user(who, user_id)
    if not is_caller_id(user_id):
        raise Refusal("not_found")


async def _erased(context: Context, who: Caller, pseudonym: str) -> None:
    """Return once the worker has erased the user; it does so in any case, even where this gives up."""
    deadline = time.monotonic() + ERASED_S
    while not await is_erased(context.pool, who.workspace, pseudonym):
        if time.monotonic() > deadline:
            detail = "The user's data is being erased, which takes longer; repeat the request to learn when it is done."
            raise Refusal("outcome_unknown", detail, retry_after_ms=2000)
        await asyncio.sleep(ASK_S)


async def _default(context: Context, who: Caller) -> int | None:
    return (await read_workspace(context.pool, who.workspace)).max_coupons


async def _answer(context: Context, who: Caller, user_id: str, row: UserRow | None, default: int | None) -> User:
    return User(
        user_id=user_id,
        max_coupons=default if row is None or row.max_coupons is None else row.max_coupons,
        coupons=await context.hot.user_coupons(who, user_id),
        metadata=row.metadata if row else {},
        created_at=from_ms(row.created_ms) if row else None,
    )
