"""The hot operations, one row each.

Routes, access, limits, metrics, batches, the fast lane and the OpenAPI document come from these rows: the ids, routes
and `batch` names are the API's. Each row's script also runs within lua/includes/limits.lua, which counts the caller's
requests.
"""

from dataclasses import dataclass

from service.engine.operations import assign, cards, checkout, coupon_view, gift, lock, redeem, rollback, unassign
from service.engine.operations.base import Operation


@dataclass(frozen=True, kw_only=True)
class Row:
    """One hot operation."""

    operation_id: str
    route: str
    """Method and path, with at most one name in braces."""
    operation: Operation
    roles: tuple[str, ...]
    """A caller needs one of them."""
    script: str
    """The script that the operation's `prepare` names."""
    done: str = ""
    """The console's counter of its successes, if any: a stored name, which charts.js reads."""
    batch: str = ""
    """Its `op` in a batch, if any."""
    fast: bool = False
    """Whether the fast lane answers it; only a POST can be."""
    audited: str = ""
    """Its action in the audit, if the console does it. Without one, a session may not, unless it `reads`."""
    reads: bool = False
    """Whether it changes nothing; then it takes no Idempotency-Key."""


_SHOPPING = ("checkout", "user")

# fmt: off
ASSIGN_ANY = Row(
    operation_id="assignAny", route="POST /v1/coupons/assign", operation=assign.ASSIGN_ANY, roles=_SHOPPING,
    script="assign_any", done="assigned", fast=True,
)
ASSIGN_CODE = Row(
    operation_id="assignCode", route="POST /v1/coupons/assign/{code}", operation=assign.ASSIGN_CODE, roles=_SHOPPING,
    script="assign_code", done="assigned", fast=True, audited="coupon.assigned",
)
UNASSIGN = Row(
    operation_id="unassignCoupon", route="POST /v1/coupons/unassign/{code}", operation=unassign.UNASSIGN,
    roles=("manage",), script="unassign", audited="coupon.unassigned",
)
LOCK = Row(
    operation_id="lockCoupon", route="POST /v1/coupons/lock/{code}", operation=lock.LOCK, roles=_SHOPPING,
    script="lock", done="locked", batch="lock", fast=True, audited="coupon.locked",
)
EXTEND = Row(
    operation_id="extendLock", route="POST /v1/coupons/extend/{code}", operation=lock.EXTEND, roles=_SHOPPING,
    script="extend", batch="extend", fast=True,
)
UNLOCK = Row(
    operation_id="unlockCoupon", route="POST /v1/coupons/unlock/{code}", operation=lock.UNLOCK, roles=_SHOPPING,
    script="unlock", done="released", batch="unlock", fast=True, audited="coupon.unlocked",
)
REDEEM = Row(
    operation_id="redeemCoupon", route="POST /v1/coupons/redeem/{code}", operation=redeem.REDEEM, roles=_SHOPPING,
    script="redeem", done="redeemed", batch="redeem", fast=True,
)
VALIDATE = Row(
    operation_id="validateCoupon", route="POST /v1/coupons/validate", operation=redeem.VALIDATE,
    roles=("public", "checkout", "user"), script="validate", batch="validate", fast=True, reads=True,
)
CHECKOUT = Row(
    operation_id="checkout", route="POST /v1/checkout", operation=checkout.CHECKOUT, roles=_SHOPPING,
    script="checkout", done="purchased",
)
GIFT = Row(
    operation_id="giveGift", route="POST /v1/users/{userId}/gifts", operation=gift.GIFT, roles=_SHOPPING,
    script="gift",
)
ROLLBACK = Row(
    operation_id="rollbackRedemption", route="POST /v1/redemptions/{redemptionId}/rollback",
    operation=rollback.ROLLBACK, roles=("manage",), script="rollback", audited="redemption.rolledBack",
)
ROLLBACK_ORDER = Row(
    operation_id="rollbackOrder", route="POST /v1/orders/{orderId}/rollback", operation=rollback.ROLLBACK_ORDER,
    roles=("manage",), script="rollback_order", audited="order.rolledBack",
)
CREDIT = Row(
    operation_id="creditCard", route="POST /v1/coupons/{code}/credit", operation=cards.CREDIT, roles=("manage",),
    script="adjust_card", audited="card.credited",
)
CLOSE = Row(
    operation_id="closeCard", route="POST /v1/coupons/{code}/close", operation=cards.CLOSE, roles=("manage",),
    script="adjust_card", audited="card.closed",
)
READ = Row(
    operation_id="getCoupon", route="GET /v1/coupons/{code}", operation=coupon_view.READ,
    roles=("checkout", "manage", "user"), script="coupon", reads=True,
)

ROWS = (
    ASSIGN_ANY, ASSIGN_CODE, UNASSIGN, LOCK, EXTEND, UNLOCK, REDEEM, VALIDATE, CHECKOUT, GIFT, ROLLBACK, ROLLBACK_ORDER,
    CREDIT, CLOSE, READ,
)
# fmt: on

DONE = frozenset(row.done for row in ROWS if row.done)
"""The console's counters of successes."""
