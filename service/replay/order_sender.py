"""Make the book and send the orders: many at a time, each user's one after the other."""

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from service.replay.expectation import CAP, MINIMUM, NOTHING, PERCENT, Fact
from service.replay.http_client import PATIENCE_S, Answer, Client, Refused
from service.replay.orders import Order, codes, packed, streams
from service.replay.progress import Report, silent

_SETUP_PATIENCE_S = 10.0
_CODES_AT_A_TIME = 20_000
"""Codes of an upload, which must be answered in time."""


@dataclass(frozen=True)
class Target:
    """Where the orders go, and with whose keys."""

    url: str
    checkout_token: str
    manage_token: str
    operate_token: str
    currency: str
    run: str


@dataclass
class Driven:
    """What the service answered."""

    answers: Counter[str] = field(default_factory=Counter)
    facts: dict[str, Fact] = field(default_factory=dict)
    retries: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def requests(self) -> int:
        """How many requests were answered."""
        return self.answers.total() - self.answers[NOTHING]


@contextlib.contextmanager
def connected(url: str, patience_s: float = PATIENCE_S) -> Iterator[Client]:
    """A client that is closed at the end."""
    client = Client(url, patience_s)
    try:
        yield client
    finally:
        client.close()


async def make_book(target: Target, count: int, report: Report = silent) -> str:
    """Make the run's book with its codes; its id. Raises Refused, Unreachable."""
    discount = {
        "type": "percentage",
        "value": str(PERCENT),
        "maxAmount": str(CAP),
        "minOrderValue": str(MINIMUM),
        "currency": target.currency,
    }
    book = packed({"name": f"Replay {target.run}", "discount": discount})
    every = codes(target.run, count)
    with connected(target.url, _SETUP_PATIENCE_S) as client:
        made = await client.ask("POST", "/v1/books", target.manage_token, book, key=f"{target.run}-book")
        if made.status != 201:
            raise Refused(f"The book was refused: {made.outcome} {made.json.get('detail', '')}")
        book_id = made.json["bookId"]
        for start in range(0, count, _CODES_AT_A_TIME):
            report("Adding codes", start, count)
            some = every[start : start + _CODES_AT_A_TIME]
            csv = "\r\n".join(["code", *some, ""]).encode()
            path, key = f"/v1/books/{book_id}/codes", f"{target.run}-codes-{start}"
            added = await client.ask("POST", path, target.manage_token, csv, kind="text/csv", key=key)
            if added.json.get("added") != len(some):
                raise Refused(f"Not all of {len(some)} codes were added: {added.outcome} {added.body.decode()[:500]}")
    report("Adding codes", count, count)
    return book_id


async def drive(
    target: Target, orders: Sequence[Order], in_flight: int, on_answer: Callable[[], None] = lambda: None
) -> Driven:
    """Send all orders, on at most so many connections, each with one request at a time. Raises Unreachable."""
    driven = Driven()
    every = streams(orders)
    waiting = iter(every)
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(min(in_flight, len(every))):
            group.create_task(_Checkout(target, driven, on_answer).work(waiting))
    driven.elapsed_s = time.monotonic() - started
    return driven


class _Checkout:
    """One connection. Takes a stream of orders after the other, until none is left, and for each order in it

    1. locks its coupon,
    2. redeems it, under the lock if there is one,
    3. unlocks it if it was locked and not redeemed;
    4. or, if it is cancelled, rolls back what its user redeemed last and still has.
    """

    def __init__(self, target: Target, driven: Driven, on_answer: Callable[[], None]) -> None:
        self._target, self._driven, self._on_answer = target, driven, on_answer
        self._client = Client(target.url)

    async def work(self, waiting: Iterator[list[Order]]) -> None:
        """Send streams until none is left."""
        try:
            for stream in waiting:
                standing: defaultdict[Any, list[tuple[str, str]]] = defaultdict(list)
                for order in stream:
                    if order.cancelled:
                        await self._return(order, standing[order.user_id])
                    else:
                        await self._buy(order, standing[order.user_id])
        finally:
            self._client.close()
            self._driven.retries.update(self._client.retries)

    async def _buy(self, order: Order, standing: list[tuple[str, str]]) -> None:
        code, token = order.code, self._target.checkout_token
        lock = await self._ask("lock", f"/v1/coupons/lock/{code}", token, order.lock_body())
        held = lock.json.get("lockToken") if lock.status in (200, 201) else None
        body = order.redeem_body(self._target.currency, held)
        redeem = await self._ask("redeem", f"/v1/coupons/redeem/{code}", token, body)
        if redeem.status in (200, 201):
            fact = _fact(redeem.json)
            self._driven.facts[fact.code] = fact
            standing.append((redeem.json.get("redemptionId", ""), fact.code))
        elif held is not None:
            await self._ask("unlock", f"/v1/coupons/unlock/{code}", token, {"lockToken": held})

    async def _return(self, order: Order, standing: list[tuple[str, str]]) -> None:
        if not standing:
            self._driven.answers[NOTHING] += 1
            return
        redemption, code = standing.pop()
        path, body = f"/v1/redemptions/{redemption}/rollback", {"reason": f"Cancelled by {order.order_id}"}
        key = f"{self._target.run}-{order.line}"  # what makes it safe to repeat: a second one is refused
        rollback = await self._ask("rollback", path, self._target.manage_token, body, key)
        if rollback.status == 200:
            taken_back = rollback.json.get("rolledBackAt") is not None
            self._driven.facts[code] = self._driven.facts[code]._replace(rolled_back=taken_back)

    async def _ask(self, operation: str, path: str, token: str, body: dict[str, Any], key: str = "") -> Answer:
        started = time.monotonic()
        answer = await self._client.ask("POST", path, token, packed(body), key=key)
        if answer.repeated and answer.status == 200 and operation in ("lock", "redeem"):
            answer = answer._replace(status=201)  # it had been done; only its answer was lost
        elif not answer.repeated:
            self._driven.latencies_s.append(time.monotonic() - started)
        self._driven.answers[f"{operation} {answer.outcome}"] += 1
        self._on_answer()
        return answer


def _fact(said: dict[str, Any]) -> Fact:
    """The redemption that an answer shows; amounts that can't be read are NaN, which equals nothing."""
    value, discount, final = (_amount(said.get(name)) for name in ("orderValue", "discountAmount", "finalAmount"))
    return Fact(said.get("code", ""), said.get("userId", ""), said.get("orderId"), value, discount, final)


def _amount(text: Any) -> Decimal:
    try:
        return Decimal(text)
    except (InvalidOperation, TypeError, ValueError):
        return Decimal("NaN")
