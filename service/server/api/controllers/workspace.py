"""The workspace's settings, and a test workspace's clock. app.py registers it; roles.py has the scope of each operation
id. The body copies WorkspaceRow's fields by name. API processes read `limits` with the keys."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get, patch, post
from msgspec import UNSET, UnsetType

from service.engine.domain import field_types
from service.engine.domain.errors import BadField, Refusal
from service.engine.domain.field_types import Answer, Count
from service.engine.domain.limits import KeyLimits, WorkspaceLimits
from service.engine.domain.money import CURRENCIES, check_currency
from service.engine.domain.times import ZoneName, find_zone, from_ms, to_ms
from service.server.api.configuration_writes import Change, settle_keys
from service.server.api.documented import describe_action, describe_route
from service.server.api.idempotency import ActionResult, run_once
from service.server.api.reading import read_json_body, unpack_request
from service.server.in_postgres.budget_rows import budgeted_books
from service.server.in_postgres.workspace_rows import patch_workspace, read_workspace

MAX_COUPONS_PER_ORDER = 100
"""It bounds the work of the script that rolls back an order."""

_DEFAULTS = {
    "currency": "USD",
    "coupons_per_order": 1,
    "idempotency_hours": 24,
    "time_zone": "UTC",
}
"""As in sql/migrations/0002_configuration.sql."""
_EXAMPLE = {
    "workspaceId": "019aa0b2-5d10-7e0b-9f3c-2a6f0c9d4b21",
    "name": "demo",
    "mode": "live",
    "currency": "USD",
    "couponsPerOrder": 1,
    "maxCoupons": None,
    "giftBookId": None,
    "idempotencyHours": 24,
    "limits": {
        "keys": {
            "requestsPerMinute": None,
            "missesPerMinute": 600,
            "addressMissesPerMinute": None,
            "liveLocks": None,
        },
        "books": {"missesPerMinute": None, "locksPerUser": 2, "lockedPercent": 80},
    },
    "timeZone": "Europe/Berlin",
    "storageMib": 4096,
    "storageUsedMib": 310,
    "operatorLimits": None,
}


class PatchWorkspace(field_types.Request, kw_only=True):
    """Changes of the settings; null resets a setting to its default."""

    currency: Annotated[
        Annotated[str, msgspec.Meta(extra_json_schema=CURRENCIES)] | UnsetType | None,
        msgspec.Meta(examples=["USD"]),
    ] = UNSET
    coupons_per_order: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=MAX_COUPONS_PER_ORDER)] | UnsetType | None,
        msgspec.Meta(description="Null means 1."),
    ] = UNSET
    max_coupons: Annotated[Count | UnsetType | None, msgspec.Meta(description="Null for any number.")] = UNSET
    gift_book_id: UUID | UnsetType | None = UNSET
    idempotency_hours: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=8760)] | UnsetType | None,
        msgspec.Meta(description="Null means 24."),
    ] = UNSET
    limits: Annotated[
        WorkspaceLimits | UnsetType | None,
        msgspec.Meta(description="They replace all earlier ones; null for none."),
    ] = UNSET

    time_zone: Annotated[
        ZoneName | UnsetType | None,
        msgspec.Meta(description="It applies to earlier hours after `scrip reports --repair`. Null means UTC."),
    ] = UNSET

    def __post_init__(self) -> None:
        if isinstance(self.currency, str):
            check_currency("currency", self.currency)
        if isinstance(self.time_zone, str):
            find_zone(self.time_zone)


class Workspace(Answer, kw_only=True):
    """A workspace's settings."""

    workspace_id: UUID
    name: str
    mode: Literal["live", "test"]
    currency: str
    coupons_per_order: int
    max_coupons: int | None
    gift_book_id: UUID | None
    idempotency_hours: int
    limits: WorkspaceLimits | None
    time_zone: str
    storage_mib: int
    storage_used_mib: int
    operator_limits: KeyLimits | None


class Settings(Controller):
    path = "/v1/workspace"
    tags = ("Workspace",)

    @get("/", **describe_route("getWorkspace", "Read the settings", returns="The settings.", answer=_EXAMPLE))
    async def read(self, request: Request[Any, Any, Any]) -> Workspace:
        """The workspace's settings. Scope `operate`."""
        caller, context, _ = unpack_request(request)
        return Workspace.from_row(await read_workspace(context.pool, caller.workspace))

    @patch(
        "/",
        **describe_route(
            "patchWorkspace",
            "Change the settings",
            returns="The changed settings.",
            body=PatchWorkspace,
            example={"couponsPerOrder": 2},
            answer=_EXAMPLE,
            refusals="outcome_unknown",
        ),
    )
    async def change(self, request: Request[Any, Any, Any]) -> Workspace:
        """Change the given settings. They apply to all later requests. Scope `operate`."""
        caller, context, _ = unpack_request(request)
        _, payload = await read_json_body(request, PatchWorkspace)
        change = Change(context, caller.partition)
        changes = payload.list_changes(_DEFAULTS)
        row = await patch_workspace(context.pool, caller.workspace, caller.partition, changes)
        await change.project(row.version, context.projector.workspace(row))
        if "time_zone" in changes:
            for book in await budgeted_books(context.pool, caller.partition, caller.workspace):
                await change.project(book.row.version, context.projector.book(book.row))
        if "limits" in changes:  # each process has them with its keys
            await settle_keys(context)
        return Workspace.from_row(row)


_END_MS = to_ms(datetime(9900, 1, 1, tzinfo=UTC))
"""Leaves room for the clock to run on, and for the longest lock (68 years), before the last valid time in 9999."""


_Now = Annotated[
    datetime,
    msgspec.Meta(
        tz=True,
        description="RFC 3339, from 1970 and before 9900.",
        examples=["2036-11-27T00:00:00Z"],
        extra_json_schema={"pattern": "^(?:19[7-9]|[2-8][0-9]{2}|9[0-8][0-9])"},
    ),
]


class SetClock(field_types.Request, kw_only=True):
    """The time that the clock is set to."""

    now: Annotated[_Now | None, msgspec.Meta(description="Null resets the clock to the real time.")] = None

    def __post_init__(self) -> None:
        if self.now is not None and not 0 <= to_ms(self.now) < _END_MS:
            raise BadField("now", "must be from 1970 to 9899")


class Clock(Answer, kw_only=True):
    """The time in the workspace."""

    now: str


class TestClock(Controller):
    path = "/v1/test/clock"
    tags = ("Workspace",)

    @post(
        "/",
        status_code=200,
        **describe_action(
            "setTestClock",
            "Set a test workspace's clock",
            returns="The time that now is.",
            body=SetClock,
            example={"now": "2036-11-27T00:00:00Z"},
            answer={"now": "2036-11-27T00:00:00.000Z"},
            refusals="outcome_unknown",
        ),
    )
    async def set(self, request: Request[Any, Any, Any]) -> Response[Clock]:
        """Set the time of validity windows and locks, forward or back; the clock runs on from there. Scope `operate`.

        Only test workspaces have a clock; in a live workspace the response is `forbidden`. Keys, idempotency and the
        creation times of books and codes stay on the real time. Setting the clock back may make an expired lock live
        again, if no request has used its coupon since; that lock again counts towards the limits of the book and the
        user. Redemptions never exceed a limit, since a redeem counts the uses.
        """
        caller, context, _ = unpack_request(request)
        body, payload = await read_json_body(request, SetClock)
        if caller.mode != "test":
            raise Refusal(
                "forbidden", "Only test workspaces have a clock: `scrip workspaces create NAME --test` makes one."
            )

        async def act() -> ActionResult[Clock]:
            change = Change(context, caller.partition)
            real_ms = await context.decider.read_time_ms(caller.partition)
            now_ms = real_ms if payload.now is None else to_ms(payload.now)
            changes = {"clock_offset_ms": now_ms - real_ms}
            row = await patch_workspace(context.pool, caller.workspace, caller.partition, changes)
            await change.project(row.version, context.projector.workspace(row))
            return ActionResult(status=200, body=Clock(now=from_ms(now_ms)))

        return await run_once(request, body, act)
