"""API keys. app.py registers it; roles.py has the scope of each operation id. Key copies KeyRow's fields by name. A
response follows only after all processes know the change (`settle_keys`), and no stored response has a secret."""

import time
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, delete, get, patch, post
from litestar.params import PathParameter

from service.engine.domain import field_types
from service.engine.domain.errors import BadField, Refusal
from service.engine.domain.field_types import Answer, Page, Rotation, check_text, text_schema
from service.engine.domain.limits import KeyLimits
from service.engine.domain.times import Time, Timestamp, check_times, to_datetime, to_ms
from service.server.api.configuration_writes import settle_keys
from service.server.api.context import Context
from service.server.api.documented import describe_action, describe_route
from service.server.api.idempotency import ActionResult, run_once
from service.server.api.reading import Listing, decode_position, parse_id, read_json_body, unpack_request
from service.server.in_postgres.key_rows import (
    NO_KEY,
    KeyRow,
    create_key,
    generate_secret,
    limit_key,
    page_keys,
    revoke_key,
    rotate_key,
)
from service.server.requests import page_cursors

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
    """A key to create."""

    name: Annotated[str, text_schema(1, 255, examples=["web shop"])]
    scopes: Annotated[
        list[Literal["public", "checkout", "manage", "operate"]],
        msgspec.Meta(
            description="No scope implies another scope.", extra_json_schema={"minItems": 1, "uniqueItems": True}
        ),
    ]
    expires_at: Time | None = None
    limits: KeyLimits | None = None

    def __post_init__(self) -> None:
        check_text("name", self.name, 1, 255)
        if not self.scopes or len(set(self.scopes)) != len(self.scopes):
            raise BadField("scopes", "must have at least one scope, and each scope once")
        check_times(self)
        if self.expires_at is not None and self.expires_at.timestamp() <= time.time():
            raise BadField("expiresAt", "must be in the future")


class PatchKey(field_types.Request, kw_only=True):
    """Changes of a key."""

    limits: Annotated[KeyLimits | None, msgspec.Meta(description="They replace all earlier ones.")]


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
    """A key with its secret."""

    secret: str | None


class KeyPage(Page[Key]):
    """A page of keys, newest first."""


class Keys(Controller):
    path = "/v1/keys"
    tags = ("Keys",)

    @post(
        "/",
        **describe_action(
            "createKey",
            "Create a key",
            returns="The new key with its secret.",
            body=CreateKey,
            example={"name": "web shop", "scopes": ["checkout"]},
            answer=_EXAMPLE | {"secret": "scrip_live_…"},
            located=True,
        ),
    )
    async def create(self, request: Request[Any, Any, Any]) -> Response[NewKey]:
        """Create a key. Only this response contains its secret. Scope `operate`."""
        caller, context, _ = unpack_request(request)
        body, payload = await read_json_body(request, CreateKey)

        async def act() -> ActionResult[NewKey]:
            secret = generate_secret(caller.mode)
            expires_at = None if payload.expires_at is None else to_datetime(to_ms(payload.expires_at))
            async with context.pool.acquire() as connection:
                row = await create_key(
                    connection,
                    caller.workspace,
                    payload.name,
                    payload.scopes,
                    secret,
                    expires_at,
                    limits=payload.limits,
                )
            return await _make_result(context, row, secret)

        return await run_once(request, body, act)

    @post(
        "/{keyId:str}/rotate",
        **describe_action(
            "rotateKey",
            "Rotate a key",
            returns="The new key with its secret.",
            body=Rotation,
            example={"overlapSeconds": 3600},
            answer=_EXAMPLE | {"secret": "scrip_live_…"},
            refusals="not_found",
            located=True,
        ),
    )
    async def rotate(self, request: Request[Any, Any, Any], key_id: KeyId) -> Response[NewKey]:
        """Create a key with the same name, scopes and expiry. The old key stays valid for `overlapSeconds`, so that
        clients can change over; the key that it had replaced is revoked. Scope `operate`."""
        caller, context, _ = unpack_request(request)
        body, payload = await read_json_body(request, Rotation)

        async def act() -> ActionResult[NewKey]:
            secret = generate_secret(caller.mode)
            replaced = parse_id(key_id, "not_found", NO_KEY)
            row = await rotate_key(context.pool, caller.workspace, replaced, secret, payload.overlap_s)
            return await _make_result(context, row, secret)

        return await run_once(request, body, act)

    @get("/", **describe_route("listKeys", "List keys", returns="A page of keys.", item=_EXAMPLE))
    async def page(self, request: Request[Any, Any, Any]) -> KeyPage:
        """Keys that are not revoked, newest first. Scope `operate`."""
        caller, context, params = unpack_request(request, Listing)
        before = decode_position(params, page_cursors.KEYS)
        rows = await page_keys(context.pool, caller.workspace, params.limit + 1, before)
        page = page_cursors.KEYS.make_page(rows, params.limit, lambda row: (row.position,))
        return KeyPage(items=[Key.from_row(row) for row in page.items], next_cursor=page.next_cursor)

    @patch(
        "/{keyId:str}",
        **describe_route(
            "patchKey",
            "Change a key's limits",
            returns="The changed key.",
            body=PatchKey,
            example={"limits": {"requestsPerMinute": 6000, "missesPerMinute": 60}},
            answer=_EXAMPLE,
            refusals="not_found",
        ),
    )
    async def change(self, request: Request[Any, Any, Any], key_id: KeyId) -> Key:
        """Set a key's limits. They apply in every process after this response. Scope `operate`."""
        caller, context, _ = unpack_request(request)
        _, payload = await read_json_body(request, PatchKey)
        row = await limit_key(context.pool, caller.workspace, parse_id(key_id, "not_found", NO_KEY), payload.limits)
        await settle_keys(context)
        return Key.from_row(row)

    @delete(
        "/{keyId:str}",
        **describe_route(
            "deleteKey", "Revoke a key", returns="The key is revoked in every process.", refusals="not_found"
        ),
    )
    async def revoke(self, request: Request[Any, Any, Any], key_id: KeyId) -> None:
        """Revoke a key. No process accepts it after this response. Scope `operate`."""
        caller, context, _ = unpack_request(request)
        async with context.pool.acquire() as connection:
            if not await revoke_key(connection, caller.workspace, parse_id(key_id, "not_found", NO_KEY)):
                raise Refusal("not_found", NO_KEY)
        await settle_keys(context)


async def _make_result(context: Context, row: KeyRow, secret: str) -> ActionResult[NewKey]:
    """The result with the new key, after every process has read it."""
    await settle_keys(context)
    return ActionResult(
        status=201,
        body=NewKey.from_row(row, secret=secret),
        stored=NewKey.from_row(row, secret=None),
        location=f"/v1/keys/{row.key_id}",
    )
