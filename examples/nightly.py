"""The nightly job of a shop: settle the orders whose answer was lost, roll cancelled ones back, and compare the rest.

SCRIP_URL and SCRIP_KEY (scopes `checkout` and `manage`) are set; run `python -m examples.nightly orders.csv BOOK_ID`.
orders.csv has orderId,userId,code,value,status,lockToken; status is paid, unknown or cancelled. code and lockToken are
those of the lock's answer.
"""

import csv
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from scrip_client import Client, Refused, refusals

Order = Mapping[str, str]


def settle(scrip: Client, order: Order) -> None:
    """Send a lost request again, the same under its own key: it happened once, or happens now."""
    scrip.redeem_coupon(
        order["code"], user_id=order["userId"], order_id=order["orderId"], order_value=order["value"],
        lock_token=order["lockToken"] or None, idempotency_key=f"redeem-{order['orderId']}",
    )  # fmt: skip


def cancel(scrip: Client, order: Order) -> None:
    """Give the coupon's use back. An order that was rolled back before, or never redeemed, stays as it is."""
    with suppress(refusals.AlreadyRolledBack, refusals.OrderNotFound):
        scrip.rollback_order(order["orderId"], reason="cancelled", idempotency_key=f"cancel-{order['orderId']}")


def run(scrip: Client, orders: Iterable[Order], book_id: str) -> Iterator[str]:
    """Yield a line for everything that a person should look at."""
    expected: set[tuple[str, str]] = set()
    for order in orders:
        state = order["status"]
        try:
            if state == "cancelled":
                cancel(scrip, order)
            elif state == "unknown":
                settle(scrip, order)
                state = "paid"
        except refusals.IdempotencyKeyReused as refusal:  # not the same request: do not give the money back yet
            yield f"{order['orderId']}: unknown: {refusal.code}"
        except Refused as refusal:  # nothing was redeemed: give the money back
            yield f"{order['orderId']}: refused: {refusal.code}"
        if state == "paid":
            expected.add((order["orderId"], order["code"]))
    items = scrip.list_book_redemptions(book_id, limit=1000)
    found = {(one.order_id or "", one.code) for one in items if one.rolled_back_at is None}
    yield from (f"{order}: the shop has no such order with {code}" for order, code in sorted(found - expected))
    yield from (f"{order}: Scrip has not redeemed {code}" for order, code in sorted(expected - found))


if __name__ == "__main__":
    orders = csv.DictReader(Path(sys.argv[1]).read_text().splitlines())
    with Client(os.environ["SCRIP_URL"], os.environ["SCRIP_KEY"], deadline_s=60) as client:
        lines = list(run(client, orders, sys.argv[2]))
    print("\n".join(lines) or "Everything agrees.")
    sys.exit(bool(lines))
