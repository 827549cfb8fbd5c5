"""An order: what was redeemed for it, its gift, and what its live locks hold. app.py registers it; roles.py has the
scope of the operation id. table.py has the rollback of an order."""

from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, get
from litestar.params import PathParameter

from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import Answer, is_caller_id
from service.engine.domain.money import Amount, from_e4
from service.engine.domain.times import Timestamp
from service.engine.operations.caller import resolve_user
from service.engine.operations.coupon_view import Coupon
from service.engine.operations.document_parts import GIFT_COUPON, LOCK, REDEMPTION
from service.engine.operations.redemption_view import Redemption
from service.server.answers.views import redemption_of
from service.server.api.controllers.histories import read_coupon, read_or_none, wait_at_replica
from service.server.api.documented import describe_history
from service.server.api.reading import unpack_request
from service.server.in_postgres.history_pages import PastRedemption, gift_of_order, redemptions_of_order

OrderIdPath = Annotated[str, PathParameter(name="orderId", description="The order's id, which the client chose.")]

_LOCK = {name: value for name, value in LOCK.items() if name not in ("lockToken", "orderId", "lockSeconds")}
_EXAMPLE = {
    "orderId": REDEMPTION["orderId"],
    "userId": REDEMPTION["userId"],
    "redemptions": [REDEMPTION],
    "locks": [_LOCK],
    "gift": GIFT_COUPON,
    "discountAmount": REDEMPTION["discountAmount"],
    "finalAmount": REDEMPTION["finalAmount"],
}


class OrderLock(Answer):
    """A live lock of an order, and the amounts that it holds; null where it holds a use alone."""

    code: str
    book_id: str
    user_id: str
    expires_at: Timestamp
    order_value: Amount | None
    currency: str | None
    discount_amount: Amount | None
    final_amount: Amount | None
    amount: Amount | None


class Order(Answer):
    """What is known of an order. Its amounts are of what stands, without locks: null without an order value, or in more
    than one currency."""

    order_id: str
    user_id: str
    redemptions: list[Redemption]
    locks: list[OrderLock]
    gift: Coupon | None
    discount_amount: Amount | None
    final_amount: Amount | None


class Orders(Controller):
    path = "/v1/orders"

    @get(
        "/{orderId:str}",
        **describe_history(
            "getOrder",
            "Get an order",
            "Redemptions",
            returns="The order.",
            answer=_EXAMPLE,
            refusals="order_not_found behind",
        ),
    )
    async def one(self, request: Request[Any, Any, Any], order_id: OrderIdPath) -> Response[Order]:
        """The order's redemptions, newest first, with the last 100 that were rolled back; its gift; and its live locks,
        at most 100 of codes with a single use, and 100 of others. A user's token gets its own orders. `behind` if it
        may be one that is not recorded yet. Scope `checkout` or `manage`."""
        caller, context, _ = unpack_request(request)
        if not is_caller_id(order_id):
            raise Refusal("order_not_found")
        locks = await context.hot.order_locks(caller, order_id)  # first: a redemption after this is in both
        headers = await wait_at_replica(context, caller)
        pool = context.replica.pool
        past = await redemptions_of_order(pool, caller.workspace, order_id)
        code = await gift_of_order(pool, caller.workspace, order_id)
        gift = None if code is None else await read_or_none(read_coupon(request, code))
        users = [one.user_id for one in reversed(past)] + [one.user_id for one in locks]
        users += [gift.user_id] if gift and gift.user_id else []
        if not users:
            raise Refusal.temporary("behind") if headers else Refusal("order_not_found")
        for user in set(users):
            resolve_user(caller, user)
        redemptions = await context.bulk.render(caller.workspace, past, redemption_of)
        discount, final = _add_up([one for one in past if one.rolled_back_at_ms is None])
        order = Order(
            order_id=order_id,
            user_id=users[0],
            redemptions=redemptions,
            locks=[msgspec.convert(lock, OrderLock, from_attributes=True) for lock in locks],  # without tokens
            gift=gift,
            discount_amount=discount,
            final_amount=final,
        )
        return Response(order, headers=headers)


def _add_up(standing: list[PastRedemption]) -> tuple[str | None, str | None]:
    """What these redemptions take off and what their cards paid, in one sum, and what is left to pay: of the order's
    value, the largest that one of them names, since a later one may name what an earlier one left."""
    if len({one.currency for one in standing}) > 1:
        return None, None
    digits = max((one.digits for one in standing), default=2)
    saved_e4 = sum(one.discount_e4 for one in standing)
    values_e4 = [one.value_e4 for one in standing if one.value_e4 is not None]
    final = from_e4(max(0, max(values_e4) - saved_e4), digits) if values_e4 else None
    return from_e4(saved_e4, digits), final
