"""Completing a purchase, and gifts."""

from typing import Any

from litestar import Controller, Request, Response, post

from service.api.controllers.coupons import BOOK_ID, COUPON, REDEMPTION
from service.api.controllers.users import UserIdPath
from service.api.documented import documented
from service.api.hot_path import perform
from service.operations import checkout, gift
from service.operations.checkout import Purchase
from service.operations.coupon_view import AssignedCoupon

_GIFT = COUPON | {
    "code": "GIFT-4XK9",
    "bookId": "019aa0b2-7a11-7d3e-8c1b-2f60a1b9e0d4",
    "assignedAt": "2026-11-20T09:15:30.456Z",
}
_REDEEM = (
    "coupon_not_found coupon_inactive book_inactive not_started expired coupon_not_assigned coupon_assigned_to_other "
    "coupon_locked lock_lost lock_required coupon_redeemed coupon_exhausted user_redemption_limit out_of_stock "
    "order_already_used currency_mismatch order_value_too_low"
)
_TRAFFIC = "behind outcome_unknown"


class Purchases(Controller):
    """What a checkout page asks for."""

    path = "/v1"

    @post(
        "/checkout",
        **documented(
            "checkout", "Complete a purchase", "Coupons", body=checkout.CheckoutRequest,
            example={"userId": "user-42", "orderId": "A-1001", "orderValue": "120.00", "code": "SUMMER-7QX2"},
            answer={"redemption": REDEMPTION, "gift": _GIFT, "finalAmount": "96.00", "durability": "fsynced"},
            answers={200: (Purchase, "This user completed this order already.")},
            refusals=f"book_not_found {_REDEEM} {_TRAFFIC}", idempotent=True, durable=True,
        ),
    )  # fmt: skip
    async def complete(self, request: Request[Any, Any, Any]) -> Response[Purchase]:
        """Redeem the order's coupon and give its gift, as one change; either may be missing. Scope `checkout`.

        The gift is a free code of `giftBookId`, else of the redeemed book's gift book, else of the workspace's. Where
        there is none, none is free, or the user may have no more, `gift` is null and the sale stands. Repeated, it
        gives no second gift, nor one that there was none of at first."""
        return await perform(request, checkout.CHECKOUT)

    @post(
        "/users/{userId:str}/gifts",
        **documented(
            "giveGift", "Give an order's gift", "Users", body=gift.GiftRequest,
            example={"bookId": BOOK_ID, "orderId": "A-1001"}, answer=_GIFT | {"durability": "fsynced"},
            answers={200: (AssignedCoupon, "It was given for this order already.")},
            refusals="book_not_found order_already_used book_inactive expired user_code_limit user_coupon_limit "
            f"out_of_stock not_found {_TRAFFIC}", idempotent=True, durable=True,
        ),
    )  # fmt: skip
    async def give(self, request: Request[Any, Any, Any], user_id: UserIdPath) -> Response[AssignedCoupon]:
        """Give the user a random free coupon of a book, once for an order. Scope `checkout`.

        An order that has a gift of another book, or another user's, is `order_already_used`. What an order's rollback
        took back may be given again."""
        return await perform(request, gift.GIFT, user_id)
