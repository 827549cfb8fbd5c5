"""Creates the book and sends the orders: many in parallel, those of one group in sequence. command.py calls this. The
book's rules are the constants of expectation.py."""

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from service.replay.expectation import CAP, MINIMUM, NOTHING_TO_ROLL_BACK, PERCENT, Redemption
from service.replay.orders import CURRENCY, Order, encode_body, group_orders, make_codes
from service.replay.progress import ReportProgress, ignore_progress
from service.replay.retrying_client import Client, Response, UnexpectedResponse, Unreachable

_SETUP_RETRY_DEADLINE_S = 10.0
_CODES_PER_UPLOAD = 20_000
"""Small enough to be answered within the response timeout."""


@dataclass(frozen=True)
class Target:
    """The service, the keys to use, and the run's prefix."""

    url: str
    checkout_token: str
    manage_token: str
    operate_token: str
    run: str


@dataclass
class ReplayResult:
    """The answers of the service, counted by outcome, and the redemptions in them, by code."""

    answers: Counter[str] = field(default_factory=Counter)
    redemptions: dict[str, Redemption] = field(default_factory=dict)
    retries: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0


async def create_book(target: Target, count: int, report: ReportProgress = ignore_progress) -> str:
    """Create the run's book with `count` codes. Returns its id. Raises UnexpectedResponse, Unreachable."""
    discount = {
        "type": "percentage",
        "value": str(PERCENT),
        "maxAmount": str(CAP),
        "minOrderValue": str(MINIMUM),
        "currency": CURRENCY,
    }
    book = encode_body({"name": f"Replay {target.run}", "discount": discount})
    codes = make_codes(target.run, count)
    async with contextlib.aclosing(Client(target.url, _SETUP_RETRY_DEADLINE_S)) as client:
        created = await client.request("POST", "/v1/books", target.manage_token, book, key=f"{target.run}-book")
        if created.status != 201:
            detail = created.json.get("detail", "")
            raise UnexpectedResponse(f"The service refused the book: {created.outcome} {detail}")
        book_id = created.json["bookId"]
        for start in range(0, count, _CODES_PER_UPLOAD):
            report("Adding codes", start, count)
            part = codes[start : start + _CODES_PER_UPLOAD]
            csv = "\r\n".join(["code", *part, ""]).encode()
            path, key = f"/v1/books/{book_id}/codes", f"{target.run}-codes-{start}"
            added = await client.request("POST", path, target.manage_token, csv, kind="text/csv", key=key)
            if added.json.get("added") != len(part):
                raise UnexpectedResponse(
                    f"The service did not add all of {len(part)} codes: {added.outcome} {added.body.decode()[:500]}"
                )
    report("Adding codes", count, count)
    return book_id


async def send_orders(
    target: Target, orders: Sequence[Order], in_flight: int, on_answer: Callable[[], None]
) -> ReplayResult:
    """Send all orders on at most `in_flight` connections, one request at a time on each.

    Calls `on_answer` after each answer. Raises Unreachable.
    """
    result = ReplayResult()
    groups = group_orders(orders)
    waiting = iter(groups)
    started = time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(in_flight, len(groups))):
                group.create_task(_Checkout(target, result, on_answer).send(waiting))
    except ExceptionGroup as errors:
        if (unreachable := errors.subgroup(Unreachable)) is None:
            raise
        raise unreachable.exceptions[0] from None
    result.elapsed_s = time.monotonic() - started
    return result


class _Checkout:
    """One connection. Sends group after group until none is left. For each order in a group it

    1. locks the coupon,
    2. redeems the coupon, under the lock if there is one,
    3. unlocks the coupon if it was locked and not redeemed;
    4. or, for a cancelled order, rolls back the user's latest redemption that still stands.
    """

    def __init__(self, target: Target, result: ReplayResult, on_answer: Callable[[], None]) -> None:
        self._target, self._result, self._on_answer = target, result, on_answer
        self._client = Client(target.url)

    async def send(self, waiting: Iterator[list[Order]]) -> None:
        """Send groups of orders until none is left. Raises Unreachable."""
        try:
            for group in waiting:
                standing: defaultdict[Any, list[tuple[str, str]]] = defaultdict(list)
                for order in group:
                    if order.cancelled:
                        await self._roll_back(order, standing[order.user_id])
                    else:
                        await self._buy(order, standing[order.user_id])
        finally:
            await self._client.aclose()
            self._result.retries.update(self._client.retries)

    async def _buy(self, order: Order, standing: list[tuple[str, str]]) -> None:
        code, token = order.code, self._target.checkout_token
        lock = await self._send_request("lock", f"/v1/coupons/lock/{code}", token, order.lock_body())
        lock_token = lock.json.get("lockToken") if lock.status in (200, 201) else None
        body = order.redeem_body(lock_token)
        redeem = await self._send_request("redeem", f"/v1/coupons/redeem/{code}", token, body)
        if redeem.status in (200, 201):
            redemption = _parse_redemption(redeem.json)
            self._result.redemptions[redemption.code] = redemption
            standing.append((redeem.json.get("redemptionId", ""), redemption.code))
        elif lock_token is not None:
            await self._send_request("unlock", f"/v1/coupons/unlock/{code}", token, {"lockToken": lock_token})

    async def _roll_back(self, order: Order, standing: list[tuple[str, str]]) -> None:
        if not standing:
            self._result.answers[NOTHING_TO_ROLL_BACK] += 1
            return
        redemption_id, code = standing.pop()
        path, body = f"/v1/redemptions/{redemption_id}/rollback", {"reason": f"Cancelled by {order.order_id}"}
        key = f"{self._target.run}-{order.line}"  # makes a retry safe: without it, a second rollback is refused
        rollback = await self._send_request("rollback", path, self._target.manage_token, body, key)
        if rollback.status == 200:
            is_rolled_back = rollback.json.get("rolledBackAt") is not None
            self._result.redemptions[code] = self._result.redemptions[code]._replace(rolled_back=is_rolled_back)

    async def _send_request(
        self, operation: str, path: str, token: str, body: dict[str, Any], key: str = ""
    ) -> Response:
        started = time.monotonic()
        response = await self._client.request("POST", path, token, encode_body(body), key=key)
        if response.was_retried and response.status == 200 and operation in ("lock", "redeem"):
            response = response._replace(status=201)  # an earlier attempt succeeded, and its response was lost
        elif not response.was_retried:
            self._result.latencies_s.append(time.monotonic() - started)
        self._result.answers[f"{operation} {response.outcome}"] += 1
        self._on_answer()
        return response


def _parse_redemption(body: dict[str, Any]) -> Redemption:
    """Parse a redemption from a response. Invalid amounts become NaN, which equals no expected amount."""
    value, discount, final = (_parse_amount(body.get(name)) for name in ("orderValue", "discountAmount", "finalAmount"))
    return Redemption(body.get("code", ""), body.get("userId", ""), body.get("orderId"), value, discount, final)


def _parse_amount(text: Any) -> Decimal:
    try:
        return Decimal(text)
    except (InvalidOperation, TypeError, ValueError):
        return Decimal("NaN")
