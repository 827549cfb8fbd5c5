"""A checkout in Litestar: hold the coupon and its price while the customer pays, and redeem it once, whatever is lost.

SCRIP_URL and SCRIP_KEY (scope `checkout`) are set; run `uvicorn examples.litestar_checkout:app --port 8001`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from litestar import Litestar, Response, post
from litestar.datastructures import State
from litestar.params import JSONBody

from scrip_client import AsyncClient, OutcomeUnknown, Refused, ScripError, Unreachable

ORDERS: dict[str, dict[str, str]] = {}
"""What is known of each order: a table of your shop."""


@dataclass
class Order:
    order_id: str
    user_id: str
    code: str
    value: Decimal


async def pay(order: Order, amount: Decimal) -> None:
    """Take the payment, with the order as the provider's own idempotency key."""


async def refund(order: Order) -> None:
    """Give the payment back, if there was one."""


def refuse(order: Order, refusal: ScripError) -> Response[Any]:
    """Tell the customer why, where that is for the shopper; else something general."""
    ORDERS[order.order_id] = {"status": "refused"}
    message = refusal.detail if refusal.for_ == "shopper" else "The code can't be used now."
    return Response({"status": "refused", "code": refusal.code, "message": message}, status_code=409)


@post("/checkout", status_code=200)
async def check_out(data: JSONBody[Order], state: State) -> Response[Any]:
    scrip: AsyncClient = state.scrip
    try:
        user, value = data.user_id, data.value
        async with scrip.hold_coupon(data.code, user_id=user, order_id=data.order_id, order_value=value) as held:
            amount = held.lock.final_amount  # what the customer pays, also after a change of the book
            await pay(data, value if amount is None else amount)
            # Stored before the request, with what the nightly job needs to send the same one.
            ORDERS[data.order_id] = {"status": "unknown", "code": held.lock.code, "lockToken": held.lock.lock_token}
            redemption = await held.redeem(order_value=data.value, idempotency_key=f"redeem-{data.order_id}")
    except OutcomeUnknown as error:
        if data.order_id in ORDERS:
            return Response({"status": "unknown"}, status_code=202)
        return refuse(data, error)  # the lock is unknown, and nothing was paid
    except (Refused, Unreachable) as error:  # nothing was redeemed
        await refund(data)
        return refuse(data, error)
    ORDERS[data.order_id] = {"status": "paid"}
    return Response({"status": "paid", "amount": str(redemption.final_amount)})


@asynccontextmanager
async def with_scrip(app: Litestar) -> AsyncIterator[None]:
    async with AsyncClient(os.environ["SCRIP_URL"], os.environ["SCRIP_KEY"], deadline_s=25) as app.state.scrip:
        yield


app = Litestar([check_out], lifespan=[with_scrip])
