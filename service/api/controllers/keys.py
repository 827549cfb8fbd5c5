"""API keys."""

import asyncio
import time
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.params import PathParameter

from service.api.auth import caller
from service.api.configuration_writes import SETTLE_S
from service.api.context import Context
from service.api.documented import documented
from service.api.idempotency import Answered, once
from service.api.reading import Listing, id_of, json_body, json_bytes, position, query
from service.domain import field_types
from service.domain.book_requests import Time, check_time
from service.domain.decoding import decode
from service.domain.errors import BadField, Refusal
from service.domain.field_types import Answer, check_text, text_schema
from service.domain.limits import KeyLimits
from service.domain.times import Timestamp, from_ms, to_datetime, to_ms
from service.formats import page_cursors
from service.record.config.key_rows import (
    KeyRow,
    create_key,
    generate_secret,
    limit_key,
    page_keys,
    revoke_key,
    rotate_key,
)

DEFAULT_OVERLAP_S, MAX_OVERLAP_S = 86_400, 30 * 86_400

KeyId = Annotated[str, PathParameter(name="keyId", description="The key's id.")]

_EXAMPLE = {
    "keyId": "019aa0b2-8a11-7c2d-b8a4-1f0f6f1d2e90",
    "name": "web shop",
    "scopes": ["checkout"],
    "prefix": "scrip_live_Vb3xQ",
    "createdAt": "2026-11-20T09:14:00.123Z",
    "lastUsedAt": None,
    "expiresAt": None,
    "limits": {
        "requestsPerMinute": 6000,
        "missesPerMinute": 60,
        "addressMissesPerMinute": None,
        "liveLocks": None,
    },
}


class CreateKey(field_types.Request, kw_only=True):
    """A key to make."""

    name: Annotated[str, text_schema(1, 255, examples=["web shop"])]
    scopes: Annotated[
        list[Literal["public", "checkout", "manage", "operate"]],
        msgspec.Meta(description="None implies another.", extra_json_schema={"minItems": 1, "uniqueItems": True}),
    ]
    expires_at: Time | None = None
    limits: KeyLimits | None = None

    def __post_init__(self) -> None:
        check_text("name", self.name, 1, 255)
        if not self.scopes or len(set(self.scopes)) != len(self.scopes):
            raise BadField("scopes", "must have at least one scope, and each once")
        if self.expires_at is not None:
            check_time("expiresAt", self.expires_at)
            if self.expires_at.timestamp() <= time.time():
                raise BadField("expiresAt", "must be in the future")


class PatchKey(field_types.Request, kw_only=True):
    """Changes of a key."""

    limits: Annotated[KeyLimits | None, msgspec.Meta(description="Taken as a whole; null is the workspace's.")]


class RotateKey(field_types.Request, kw_only=True):
    """How to change over to another key."""

    overlap_seconds: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=MAX_OVERLAP_S)] | None,
        msgspec.Meta(description="How long the old key is good beside the new one; null is a day."),
    ] = None


class Key(Answer, kw_only=True):
    """A key, without its secret."""

    key_id: UUID
    name: str
    scopes: list[str]
    prefix: str
    created_at: Timestamp
    last_used_at: Timestamp | None
    expires_at: Timestamp | None
    limits: KeyLimits | None


class NewKey(Key, kw_only=True):
    """A key with its secret, which is shown this once; a repeated request gets null."""

    secret: str | None


class KeyPage(Answer, kw_only=True):
    """A page of keys, newest first."""

    items: list[Key]
    next_cursor: str | None


_create = msgspec.json.Decoder(CreateKey)
_patch = msgspec.json.Decoder(PatchKey)
_rotate = msgspec.json.Decoder(RotateKey)


class Keys(Controller):
    """The workspace's API keys."""

    path = "/v1/keys"

    @post(
        "/",
        **documented(
            "createKey",
            "Create a key",
            "Keys",
            body=CreateKey,
            example={"name": "web shop", "scopes": ["checkout"]},
            answer=_EXAMPLE | {"secret": "scrip_live_…"},
            idempotent=True,
            located=True,
        ),
    )
    async def create(self, request: Request[Any, Any, Any]) -> Response[NewKey]:
        """Make a key. Its secret is in this answer and nowhere else. Scope `operate`."""
        who = caller(request)
        query(request)
        body = await json_bytes(request)
        said = decode(_create, body)
        context: Context = request.app.state.context

        async def act() -> Answered[NewKey]:
            secret = generate_secret(who.mode)
            expires_at = None if said.expires_at is None else to_datetime(to_ms(said.expires_at))
            async with context.pool.acquire() as connection:
                row = await create_key(
                    connection, who.workspace, said.name, said.scopes, secret, expires_at, limits=said.limits
                )
            return await _made(row, secret)

        return await once(request, who, body, act)

    @post(
        "/{keyId:str}/rotate",
        **documented(
            "rotateKey",
            "Put another key in a key's place",
            "Keys",
            body=RotateKey,
            example={"overlapSeconds": 3600},
            answer=_EXAMPLE | {"secret": "scrip_live_…"},
            refusals="not_found",
            idempotent=True,
            located=True,
        ),
    )
    async def rotate(self, request: Request[Any, Any, Any], key_id: KeyId) -> Response[NewKey]:
        """Make a key with the same name, scopes and end. The old one is good for `overlapSeconds` more, so that clients
        can change over; one that the old key had replaced itself is revoked. Scope `operate`."""
        who = caller(request)
        query(request)
        body = await json_bytes(request)
        said = decode(_rotate, body)
        context: Context = request.app.state.context

        async def act() -> Answered[NewKey]:
            secret = generate_secret(who.mode)
            replaced = id_of(key_id, "not_found")
            overlap_s = DEFAULT_OVERLAP_S if said.overlap_seconds is None else said.overlap_seconds
            row = await rotate_key(context.pool, who.workspace, replaced, secret, overlap_s)
            return await _made(row, secret)

        return await once(request, who, body, act)

    @get(
        "/",
        **documented("listKeys", "List keys", "Keys", query=Listing, answer={"items": [_EXAMPLE], "nextCursor": None}),
    )
    async def page(self, request: Request[Any, Any, Any]) -> KeyPage:
        """Keys that are not revoked, newest first. Scope `operate`."""
        who = caller(request)
        asked = query(request, Listing)
        pool = request.app.state.context.pool
        rows = await page_keys(pool, who.workspace, asked.limit + 1, position(asked, page_cursors.KEYS))
        items = [Key(**_fields(row)) for row in rows[: asked.limit]]
        return KeyPage(
            items=items, next_cursor=page_cursors.KEYS.encode_next(rows, asked.limit, lambda row: (row.position,))
        )

    @patch(
        "/{keyId:str}",
        **documented(
            "patchKey",
            "Change a key's limits",
            "Keys",
            body=PatchKey,
            example={"limits": {"requestsPerMinute": 6000, "missesPerMinute": 60}},
            answer=_EXAMPLE,
            refusals="not_found",
        ),
    )
    async def change(self, request: Request[Any, Any, Any], key_id: KeyId) -> Key:
        """Limit a key. Once this is answered every process goes by it. Scope `operate`."""
        who = caller(request)
        query(request)
        said = await json_body(request, _patch)
        context: Context = request.app.state.context
        row = await limit_key(context.pool, who.workspace, id_of(key_id, "not_found"), said.limits)
        await asyncio.sleep(SETTLE_S)
        return Key(**_fields(row))

    @delete("/{keyId:str}", **documented("deleteKey", "Revoke a key", "Keys", refusals="not_found"))
    async def revoke(
        self,
        request: Request[Any, Any, Any],
        key_id: KeyId,
    ) -> None:
        """Take a key back; once this is answered no process takes it any more. Scope `operate`."""
        who = caller(request)
        query(request)
        context: Context = request.app.state.context
        async with context.pool.acquire() as connection:
            if not await revoke_key(connection, who.workspace, id_of(key_id, "not_found")):
                raise Refusal("not_found")
        await asyncio.sleep(SETTLE_S)


async def _made(row: KeyRow, secret: str) -> Answered[NewKey]:
    """Once every process knows the key."""
    await asyncio.sleep(SETTLE_S)
    fields = _fields(row)
    return Answered(
        status=201,
        body=NewKey(**fields, secret=secret),
        kept=NewKey(**fields, secret=None),
        location=f"/v1/keys/{row.key_id}",
    )


def _fields(row: KeyRow) -> dict[str, Any]:
    times = {"created_at": row.created_at, "last_used_at": row.last_used_at, "expires_at": row.expires_at}
    return {
        "key_id": row.key_id,
        "name": row.name,
        "scopes": row.scopes,
        "prefix": row.prefix,
        "limits": row.limits,
    } | {name: None if at is None else from_ms(to_ms(at)) for name, at in times.items()}
