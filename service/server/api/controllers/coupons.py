"""Coupons: validate by address, and change a coupon. The hot operations are in hot_operations.py. app.py registers it;
roles.py has the scope of each operation id."""

from typing import Annotated, Any

from litestar import Controller, Request, Response, get, patch
from litestar.params import PathParameter
from msgspec import UNSET

from service.engine.domain import field_types
from service.engine.domain.field_types import Nothing, UserId
from service.engine.domain.money import Money
from service.engine.domain.times import to_ms
from service.engine.operations import redeem
from service.engine.operations.base import parse_code
from service.engine.operations.caller import resolve_user
from service.engine.operations.coupon_view import Coupon
from service.engine.operations.document_parts import COUPON
from service.engine.operations.order_fields import Currency
from service.engine.operations.redeem import Validation
from service.engine.operations.table import READ, VALIDATE
from service.server.api.configuration_writes import Change, committed
from service.server.api.documented import describe_route
from service.server.api.hot_path import perform_decoded
from service.server.api.reading import read_json_body, unpack_request
from service.server.in_postgres.code_rows import patch_coupon
from service.server.requests.code_requests import PatchCoupon

Code = Annotated[str, PathParameter(name="code", description="The coupon's code, in upper or lower case.")]

_EXPIRED = {
    "valid": False,
    "reasons": ["expired"],
    "refusals": [
        {
            "code": "expired",
            "for": "shopper",
            "detail": "The coupon was valid until 2026-12-01T00:00:00.000Z. …",
            "expiresAt": "2026-12-01T00:00:00.000Z",
        }
    ],
    "currency": "USD",
    "discountAmount": None,
    "finalAmount": None,
    "coupon": COUPON | {"status": "expired"},
}
_INACTIVE = {"status": "inactive"}


class ValidateQuery(field_types.Request, kw_only=True):
    """The use of a coupon to validate."""

    user_id: UserId | None = None
    order_value: Money | None = None
    currency: Currency | None = None


class Coupons(Controller):
    path = "/v1/coupons"
    tags = ("Coupons",)

    @get(
        "/{code:str}/validate",
        **describe_route(
            "validateCode",
            "Validate a coupon by its address",
            returns="Whether a redeem would succeed, and with which amounts.",
            query=ValidateQuery,
            answer=_EXPIRED,
            counted=True,
        ),
    )
    async def validate_code(self, request: Request[Any, Any, Any], code: Code) -> Response[Validation]:
        """Validate a coupon without a body; otherwise as `POST /v1/coupons/validate`. Scope `public` or `checkout`."""

        def read() -> redeem.ValidateRequest:
            caller, _, params = unpack_request(request, ValidateQuery)
            return redeem.ValidateRequest(
                code=code,
                user_id=resolve_user(caller, params.user_id),
                order_value=params.order_value,
                currency=params.currency,
            )

        return await perform_decoded(request, VALIDATE, None, read)

    @patch(
        "/{code:str}",
        **describe_route(
            "patchCoupon",
            "Change a coupon",
            returns="The changed coupon.",
            body=PatchCoupon,
            example=_INACTIVE,
            answer=COUPON | _INACTIVE,
            refusals="coupon_not_found book_archived outcome_unknown",
        ),
    )
    async def change(self, request: Request[Any, Any, Any], code: Code) -> Response[Coupon]:
        """Activate or deactivate a coupon, or set its own expiry. Applies to all later requests. Scope `manage`."""
        caller, context, _ = unpack_request(request)
        _, payload = await read_json_body(request, PatchCoupon)
        change = Change(context, caller.partition)
        changes: dict[str, Any] = {}
        if payload.status is not UNSET:
            changes["active"] = payload.status != "inactive"
        if payload.expires_at is not UNSET:
            changes["expires_ms"] = None if payload.expires_at is None else to_ms(payload.expires_at)
        row = await patch_coupon(context.pool, caller.workspace, caller.partition, parse_code(code), changes)
        await change.project(row.version, context.projector.coupon(row))
        with committed():
            return await perform_decoded(request, READ, code, Nothing)
