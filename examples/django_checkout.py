"""A checkout in Django: hold the coupon and its price while the customer pays, and redeem it once, whatever is lost.

SCRIP_URL and SCRIP_KEY (scope `checkout`) are set; run
`python -m django runserver 8001 --settings examples.django_checkout`.
"""

import json
import os
from decimal import Decimal
from functools import cache

from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from scrip_client import Client, OutcomeUnknown, Refused, ScripError, Unreachable

SECRET_KEY, ROOT_URLCONF, DEBUG, ALLOWED_HOSTS = "example", __name__, False, ["*"]
"""Django's settings; in a project they have a module of their own."""
ORDERS: dict[str, dict[str, str]] = {}
"""What is known of each order: a model of your shop."""


@cache
def connect() -> Client:
    """One client for the process: it keeps its connections."""
    return Client(os.environ["SCRIP_URL"], os.environ["SCRIP_KEY"], deadline_s=25)


def pay(order_id: str, amount: Decimal) -> None:
    """Take the payment, with the order as the provider's own idempotency key."""


def refund(order_id: str) -> None:
    """Give the payment back, if there was one."""


def refuse(order_id: str, refusal: ScripError) -> JsonResponse:
    """Tell the customer why, where that is for the shopper; else something general."""
    ORDERS[order_id] = {"status": "refused"}
    message = refusal.detail if refusal.for_ == "shopper" else "The code can't be used now."
    return JsonResponse({"status": "refused", "code": refusal.code, "message": message}, status=409)


@csrf_exempt
@require_POST
def check_out(request: HttpRequest) -> JsonResponse:
    order = json.loads(request.body)
    order_id, value, user = order["orderId"], Decimal(order["value"]), order["userId"]
    scrip = connect()
    try:
        with scrip.hold_coupon(order["code"], user_id=user, order_id=order_id, order_value=value) as held:
            amount = held.lock.final_amount  # what the customer pays, also after a change of the book
            pay(order_id, value if amount is None else amount)
            # Stored before the request, with what the nightly job needs to send the same one.
            ORDERS[order_id] = {"status": "unknown", "code": held.lock.code, "lockToken": held.lock.lock_token}
            redemption = held.redeem(order_value=value, idempotency_key=f"redeem-{order_id}")
    except OutcomeUnknown as error:
        if order_id in ORDERS:
            return JsonResponse({"status": "unknown"}, status=202)
        return refuse(order_id, error)  # the lock is unknown, and nothing was paid
    except (Refused, Unreachable) as error:  # nothing was redeemed
        refund(order_id)
        return refuse(order_id, error)
    ORDERS[order_id] = {"status": "paid"}
    return JsonResponse({"status": "paid", "amount": str(redemption.final_amount)})


urlpatterns = [path("checkout", check_out)]
