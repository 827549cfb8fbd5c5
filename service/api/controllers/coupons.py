"""Coupons: the hot path, and one coupon's reading and switching."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, get, patch, post
from litestar.params import PathParameter
from msgspec import UNSET

from service.access.caller import own_user
from service.api.auth import caller
from service.api.configuration_writes import Change
from service.api.context import Context
from service.api.documented import documented
from service.api.hot_path import call_of, carry_out, perform
from service.api.reading import json_body, query
from service.domain import field_types
from service.domain.code_requests import PatchCoupon
from service.domain.errors import Refusal
from service.domain.field_types import UserId
from service.domain.money import Money
from service.domain.times import to_ms
from service.operations import assign, coupon_view, lock, redeem, rollback, unassign
from service.operations.base import code_of
from service.operations.coupon_view import AssignedCoupon, Coupon
from service.operations.lock import Lock
from service.operations.order_fields import Currency
from service.operations.redeem import Validation
from service.operations.redemption_view import DurableRedemption
from service.operations.rollback import RolledBack
from service.operations.unassign import UnassignedCoupon
from service.record.config.code_rows import patch_coupon

Code = Annotated[str, PathParameter(name="code", description="The coupon's code, in any case.")]
RedemptionId = Annotated[str, PathParameter(name="redemptionId", description="The redemption's id.")]
OrderId = Annotated[str, PathParameter(name="orderId", description="The caller's id of the order.")]

BOOK_ID = "019aa0b2-6f0c-7b52-8a0e-5d1f3d1f9c11"
COUPON: dict[str, Any] = {
    "code": "SUMMER-7QX2",
    "bookId": BOOK_ID,
    "status": "assigned",
    "userId": "user-42",
    "redemptions": 0,
    "maxRedemptions": 1,
    "lock": None,
    "assignedAt": "2026-11-20T09:14:00.123Z",
    "expiresAt": "2026-12-01T00:00:00.000Z",
    "lastRedemption": None,
}
LOCK = {
    "lockToken": "q1W2e3R4t5Y6u7I8",
    "code": "SUMMER-7QX2",
    "bookId": BOOK_ID,
    "userId": "user-42",
    "orderId": "A-1001",
    "expiresAt": "2026-11-20T09:19:00.123Z",
}
REDEMPTION: dict[str, Any] = {
    "redemptionId": "019aa0b3-0d1e-7c44-9b1f-6b1d2f0c5a77",
    "code": "SUMMER-7QX2",
    "bookId": BOOK_ID,
    "userId": "user-42",
    "orderId": "A-1001",
    "orderValue": "120.00",
    "currency": "USD",
    "discountAmount": "24.00",
    "finalAmount": "96.00",
    "redeemedAt": "2026-11-20T09:15:30.456Z",
    "rolledBackAt": None,
    "ipAddress": "192.0.2.7",
    "userAgent": "checkout/1.4",
    "metadata": {},
}
_ORDER = {"userId": "user-42", "orderId": "A-1001", "orderValue": "120.00", "currency": "USD"}
_WINDOW = "coupon_inactive book_inactive not_started expired"
_USES = "coupon_locked coupon_redeemed coupon_exhausted user_redemption_limit out_of_stock order_already_used"
_FACTS = "order_value_required currency_mismatch order_value_too_low"
_TRAFFIC = "behind outcome_unknown"
_HELD = "coupon_not_assigned coupon_assigned_to_other"
_ASSIGN = "book_inactive expired user_code_limit user_coupon_limit"


class ValidateQuery(field_types.Request, kw_only=True):
    """A use of a coupon to try out."""

    user_id: UserId | None = None
    order_value: Money | None = None
    currency: Currency | None = None


_patch = msgspec.json.Decoder(PatchCoupon)


class Coupons(Controller):
    """What checkouts do, thousands of times a second."""

    path = "/v1/coupons"

    @post(
        "/assign",
        **documented(
            "assignAny", "Assign a free coupon", "Coupons", body=assign.AssignAny,
            example={"bookId": BOOK_ID, "userId": "user-42"}, answer=COUPON | {"durability": "fsynced"},
            refusals=f"book_not_found {_ASSIGN} out_of_stock {_TRAFFIC}", idempotent=True, durable=True,
        ),
    )  # fmt: skip
    async def assign_any(self, request: Request[Any, Any, Any]) -> Response[AssignedCoupon]:
        """Give a user a random free coupon of a book. Scope `checkout`."""
        return await perform(request, assign.ASSIGN_ANY)

    @post(
        "/assign/{code:str}",
        **documented(
            "assignCode", "Assign a coupon", "Coupons", body=assign.AssignCode, example={"userId": "user-42"},
            answer=COUPON | {"durability": "fsynced"},
            answers={200: (AssignedCoupon, "It was this user's already.")},
            refusals=f"coupon_not_found coupon_inactive {_ASSIGN} coupon_assigned_to_other coupon_locked "
            f"coupon_redeemed coupon_exhausted {_TRAFFIC}", idempotent=True, durable=True,
        ),
    )  # fmt: skip
    async def assign_code(self, request: Request[Any, Any, Any], code: Code) -> Response[AssignedCoupon]:
        """Give a user this coupon. Scope `checkout`."""
        return await perform(request, assign.ASSIGN_CODE, code)

    @post(
        "/unassign/{code:str}",
        status_code=200,
        **documented(
            "unassignCoupon", "Take an assignment back", "Coupons", body=unassign.UnassignRequest, example={},
            answer=COUPON | {"status": "available", "userId": None, "assignedAt": None, "durability": "fsynced"},
            refusals="coupon_not_found coupon_not_assigned coupon_locked coupon_redeemed coupon_exhausted "
            f"{_TRAFFIC}", idempotent=True, durable=True,
        ),
    )  # fmt: skip
    async def unassign_code(self, request: Request[Any, Any, Any], code: Code) -> Response[UnassignedCoupon]:
        """Take the coupon from its user, while nothing of it is locked or used; it then counts nowhere. Scope `manage`.

        One of whose uses some are spent is `coupon_redeemed`, and `coupon_exhausted` when all are. Neither a coupon
        that is switched off nor a window that is over is in the way."""
        return await perform(request, unassign.UNASSIGN, code)

    @post(
        "/lock/{code:str}",
        **documented(
            "lockCoupon", "Lock a coupon", "Coupons", body=lock.LockRequest,
            example={"userId": "user-42", "orderId": "A-1001"}, answer=LOCK,
            answers={200: (Lock, "This user holds it for this order already; renewed.")},
            refusals=f"coupon_not_found {_WINDOW} {_HELD} {_USES} lock_quota {_TRAFFIC}", idempotent=True,
        ),
    )  # fmt: skip
    async def lock_code(self, request: Request[Any, Any, Any], code: Code) -> Response[Lock]:
        """Hold one use for a user and an order, until it is redeemed, released or expired. Scope `checkout`."""
        return await perform(request, lock.LOCK, code)

    @post(
        "/extend/{code:str}",
        status_code=200,
        **documented(
            "extendLock", "Extend a lock", "Coupons", body=lock.ExtendRequest,
            example={"lockToken": LOCK["lockToken"], "lockSeconds": 300}, answer=LOCK,
            refusals=f"coupon_not_found coupon_inactive book_inactive lock_lost lock_ceiling {_TRAFFIC}",
            idempotent=True,
        ),
    )  # fmt: skip
    async def extend_lock(self, request: Request[Any, Any, Any], code: Code) -> Response[Lock]:
        """Move a live lock's deadline; never back, never past its ceiling. Scope `checkout`."""
        return await perform(request, lock.EXTEND, code)

    @post(
        "/unlock/{code:str}",
        status_code=204,
        **documented(
            "unlockCoupon", "Release a lock", "Coupons", body=lock.UnlockRequest,
            example={"lockToken": LOCK["lockToken"]}, refusals="coupon_not_found outcome_unknown", idempotent=True,
        ),
    )  # fmt: skip
    async def unlock_code(self, request: Request[Any, Any, Any], code: Code) -> Response[None]:
        """Release a lock; done too where it was released or had expired. Scope `checkout`."""
        return await perform(request, lock.UNLOCK, code)

    @post(
        "/redeem/{code:str}",
        **documented(
            "redeemCoupon", "Redeem a coupon", "Coupons", body=redeem.RedeemRequest,
            example=_ORDER | {"lockToken": LOCK["lockToken"]}, answer=REDEMPTION | {"durability": "fsynced"},
            answers={200: (DurableRedemption, "This user redeemed it for this order already, and it stands.")},
            refusals=f"coupon_not_found {_WINDOW} {_HELD} {_USES} lock_lost lock_required {_FACTS} {_TRAFFIC}",
            idempotent=True, durable=True,
        ),
    )  # fmt: skip
    async def redeem_code(self, request: Request[Any, Any, Any], code: Code) -> Response[DurableRedemption]:
        """Spend one use, with the discount that the book gives. Scope `checkout`."""
        return await perform(request, redeem.REDEEM, code)

    @post(
        "/validate",
        status_code=200,
        **documented(
            "validateCoupon", "Validate a coupon", "Coupons", body=redeem.ValidateRequest,
            example=_ORDER | {"code": "SUMMER-7QX2"},
            answer={
                "valid": True, "reasons": [], "discountAmount": "24.00", "finalAmount": "96.00", "coupon": COUPON,
            },
        ),
    )  # fmt: skip
    async def validate_body(self, request: Request[Any, Any, Any]) -> Response[Validation]:
        """What a redeem would say, with every refusal that would apply; changes nothing. Scope `public` or `checkout`.

        A key with the scope `public` alone learns no reason: just `coupon_not_available`."""
        return await perform(request, redeem.VALIDATE)

    @get(
        "/{code:str}/validate",
        **documented(
            "validateCode", "Validate a coupon by its address", "Coupons", query=ValidateQuery,
            answer={"valid": False, "reasons": ["expired"], "discountAmount": None, "finalAmount": None,
                    "coupon": COUPON | {"status": "expired"}},
        ),
    )  # fmt: skip
    async def validate_code(self, request: Request[Any, Any, Any], code: Code) -> Response[Validation]:
        """As validate. Scope `public` or `checkout`."""
        who = caller(request)
        asked = query(request, ValidateQuery)
        struct = redeem.ValidateRequest(
            code=code, user_id=own_user(who, asked.user_id), order_value=asked.order_value, currency=asked.currency
        )
        return await carry_out(request, redeem.VALIDATE, call_of(request, who), None, struct)

    @get(
        "/{code:str}", **documented("getCoupon", "Read a coupon", "Coupons", answer=COUPON, refusals="coupon_not_found")
    )
    async def read(self, request: Request[Any, Any, Any], code: Code) -> Response[Coupon]:
        """A coupon as it is now. Scope `checkout` or `manage`."""
        who = caller(request)
        query(request)
        return await carry_out(request, coupon_view.READ, call_of(request, who), code, coupon_view.ReadCoupon())

    @patch(
        "/{code:str}",
        **documented(
            "patchCoupon", "Change a coupon", "Coupons", body=PatchCoupon, example={"status": "inactive"},
            answer=COUPON | {"status": "inactive"}, refusals="coupon_not_found outcome_unknown",
        ),
    )  # fmt: skip
    async def change(self, request: Request[Any, Any, Any], code: Code) -> Response[Coupon]:
        """Switch a coupon off or on, or give it an end of its own. Governs every later request. Scope `manage`."""
        who = caller(request)
        query(request)
        said = await json_body(request, _patch)
        context: Context = request.app.state.context
        change = Change(context, who.partition)
        changes: dict[str, Any] = {}
        if said.status is not UNSET:
            changes["active"] = said.status != "inactive"
        if said.expires_at is not UNSET:
            changes["expires_ms"] = None if said.expires_at is None else to_ms(said.expires_at)
        row = await patch_coupon(context.pool, who.workspace, who.partition, code_of(code), changes)
        await change.projected(row.version, context.projector.coupon(row))
        try:
            return await carry_out(request, coupon_view.READ, call_of(request, who), code, coupon_view.ReadCoupon())
        except Refusal as refusal:  # the change stands, it just can't be shown
            raise Refusal("outcome_unknown", retry_after_ms=refusal.retry_after_ms or 1000) from refusal


class Rollbacks(Controller):
    """Taking redemptions back."""

    path = "/v1"

    @post(
        "/redemptions/{redemptionId:str}/rollback",
        status_code=200,
        **documented(
            "rollbackRedemption", "Roll a redemption back", "Redemptions", body=rollback.RollbackRequest,
            example={"reason": "Order cancelled", "restore": True},
            answer=REDEMPTION | {"rolledBackAt": "2026-11-20T10:00:00.000Z", "durability": "fsynced"},
            refusals=f"redemption_not_found already_rolled_back {_TRAFFIC}", idempotent=True, durable=True,
        ),
    )  # fmt: skip
    async def redemption(
        self, request: Request[Any, Any, Any], redemption_id: RedemptionId
    ) -> Response[DurableRedemption]:
        """Once. With `restore`, code, user, book and order get their use back; the assignment stays. Scope `manage`."""
        return await perform(request, rollback.ROLLBACK, redemption_id)

    @post(
        "/orders/{orderId:str}/rollback",
        status_code=200,
        **documented(
            "rollbackOrder", "Roll an order back", "Redemptions", body=rollback.RollbackRequest,
            example={"reason": "Order cancelled"},
            answer={"items": [REDEMPTION | {"rolledBackAt": "2026-11-20T10:00:00.000Z"}], "durability": "fsynced"},
            refusals=f"order_not_found already_rolled_back {_TRAFFIC}", idempotent=True, durable=True,
        ),
    )  # fmt: skip
    async def order(self, request: Request[Any, Any, Any], order_id: OrderId) -> Response[RolledBack]:
        """All redemptions of the order that stand. Scope `manage`."""
        return await perform(request, rollback.ROLLBACK_ORDER, order_id)
