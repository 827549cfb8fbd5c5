"""The workspace's settings."""

import asyncio
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Controller, Request, get, patch
from msgspec import UNSET, UnsetType

from service.api.auth import caller
from service.api.configuration_writes import SETTLE_S, Change
from service.api.context import Context
from service.api.documented import documented
from service.api.reading import json_body, query
from service.domain import field_types
from service.domain.configuration import WorkspaceRow
from service.domain.field_types import Answer, Count
from service.domain.limits import WorkspaceLimits
from service.domain.money import CURRENCIES, check_currency
from service.record.config.workspace_rows import patch_workspace, read_workspace

MAX_COUPONS_PER_ORDER = 100
"""What a rollback of an order handles in one script grows with them."""

_NULL = {
    "currency": "USD",
    "coupons_per_order": 1,
    "max_coupons": None,
    "gift_book_id": None,
    "idempotency_hours": 24,
    "limits": None,
}
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
}


class PatchWorkspace(field_types.Request, kw_only=True):
    """Changes of the settings; null is the default."""

    currency: Annotated[
        Annotated[str, msgspec.Meta(extra_json_schema=CURRENCIES)] | UnsetType | None,
        msgspec.Meta(description="ISO 4217.", examples=["USD"]),
    ] = UNSET
    coupons_per_order: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=MAX_COUPONS_PER_ORDER)] | UnsetType | None,
        msgspec.Meta(description="How many coupons an order takes; null is 1."),
    ] = UNSET
    max_coupons: Annotated[
        Count | UnsetType | None, msgspec.Meta(description="How many coupons a user may hold; null is no limit.")
    ] = UNSET
    gift_book_id: Annotated[
        UUID | UnsetType | None,
        msgspec.Meta(description="A checkout gives a code of this book where nothing else names one."),
    ] = UNSET
    idempotency_hours: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=8760)] | UnsetType | None,
        msgspec.Meta(description="How long an Idempotency-Key that is used from now on is known; null is 24 hours."),
    ] = UNSET
    limits: Annotated[
        WorkspaceLimits | UnsetType | None,
        msgspec.Meta(description="Of keys and books that say nothing else. Taken as a whole; null is none."),
    ] = UNSET

    def __post_init__(self) -> None:
        if isinstance(self.currency, str):
            check_currency("currency", self.currency)


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


_patch = msgspec.json.Decoder(PatchWorkspace)


class Settings(Controller):
    """What holds for a whole workspace."""

    path = "/v1/workspace"

    @get("/", **documented("getWorkspace", "Read the settings", "Workspace", answer=_EXAMPLE))
    async def read(self, request: Request[Any, Any, Any]) -> Workspace:
        """The workspace's settings. Scope `operate`."""
        who = caller(request)
        query(request)
        return _answer(await read_workspace(request.app.state.context.pool, who.workspace))

    @patch(
        "/",
        **documented(
            "patchWorkspace",
            "Change the settings",
            "Workspace",
            body=PatchWorkspace,
            example={"couponsPerOrder": 2},
            answer=_EXAMPLE,
            refusals="outcome_unknown",
        ),
    )
    async def change(self, request: Request[Any, Any, Any]) -> Workspace:
        """Change what is named; it governs every later request. Scope `operate`."""
        who = caller(request)
        query(request)
        said = await json_body(request, _patch)
        context: Context = request.app.state.context
        change = Change(context, who.partition)
        changes: dict[str, Any] = {}
        for name, default in _NULL.items():
            value = getattr(said, name)
            if value is not UNSET:
                changes[name] = default if value is None else value
        row = await patch_workspace(context.pool, who.workspace, who.partition, changes)
        await change.projected(row.version, context.projector.workspace(row))
        if "limits" in changes:
            await asyncio.sleep(SETTLE_S)
        return _answer(row)


def _answer(row: WorkspaceRow) -> Workspace:
    return Workspace(
        workspace_id=row.workspace_id,
        name=row.name,
        mode=row.mode,
        currency=row.currency,
        coupons_per_order=row.coupons_per_order,
        max_coupons=row.max_coupons,
        gift_book_id=row.gift_book_id,
        idempotency_hours=row.idempotency_hours,
        limits=row.limits,
    )
