"""Who comes to the shop: locust's users, and how they ask."""

import random
from copy import copy
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar
from uuid import uuid4

import gevent
from locust import FastHttpUser, task
from locust.exception import StopUser

from loadtests.ledger import Entry, Ledger, now_ms
from loadtests.plan import HOLD_S, Book, Kind, Plan

ATTEMPTS = 6
"""How often a request is sent that gets no answer, or one that says to come again."""
MAX_PAUSE_S = 5.0
BRING = 0.7
"""The part of those who bring a code, while the sale has some."""
IDLE_S = 2.0
"""Well below the 5 s after which a server may end a connection that nobody uses."""


@dataclass
class Load:
    """What all users of a process share."""

    plan: Plan
    token: str
    ledger: Ledger
    numbers: "count[int]"
    """Of the sale's codes, each given to one visitor."""
    began_ms: int
    books: dict[Kind, list[Book]] = field(init=False)

    def __post_init__(self) -> None:
        self.books = {book.kind: self.plan.of(book.kind) for book in self.plan.books}

    def turn(self) -> int:
        """Which of the books that are fought for all fight for now, the same in all processes."""
        rounds = len(self.books["stock"])
        return min(rounds - 1, (now_ms() - self.began_ms) * rounds // (self.plan.seconds * 1000))


class Shopper(FastHttpUser):
    """One who visits again and again; at an opening, once."""

    abstract = True
    load: ClassVar[Load]
    network_timeout = 30.0
    connection_timeout = 10.0
    _asked_ms = 0

    @task
    def visit(self) -> None:
        """A visit; those who come to an opening go home after it."""
        self.shop()
        if self.load.plan.shape == "opening":
            raise StopUser

    def shop(self) -> None:
        """What this kind of user comes for."""
        raise NotImplementedError

    def wait_time(self) -> float:
        """Seconds until the next visit."""
        return random.uniform(0, 2 * self.load.plan.pay_s)

    def pay(self) -> None:
        """Take as long as buyers take."""
        gevent.sleep(self.wait_time())

    def new_id(self) -> str:
        """A user or an order that nobody has."""
        return f"{self.load.plan.mark}-{uuid4().hex[:16]}"

    def book(self, kind: Kind) -> Book:
        """The book of a kind of which there is one."""
        return self.load.books[kind][0]

    def coupon(self, user: str) -> tuple[Book, str]:
        """A coupon that only this user has, and its book: the sale's next, which the user brought, or one of the stock
        that is assigned to it; '' where that is empty."""
        number, sale = next(self.load.numbers), self.book("sale")
        if number < sale.codes and (self.load.plan.shape == "opening" or random.random() < BRING):
            return sale, sale.code(number)
        book = self.book("stocked")
        return book, self.ask("assign", book.book_id, {"bookId": book.book_id, "userId": user}, "out_of_stock").got

    def ask(
        self,
        op: str,
        book_id: str,
        body: dict[str, Any],
        *refusals: str,
        code: str = "",
        key: str = "",
        path: str = "",
        may_succeed: bool = True,
    ) -> Entry:
        """The answer to a POST, which should be a success or one of these refusals. Unanswered, or told to come again,
        it is sent again under its key, some times."""
        path = path or f"/v1/coupons/{op}" + (f"/{code}" if code else "")
        key = key or uuid4().hex
        kind, user, order = type(self).__name__, body.get("userId", ""), body.get("orderId", "")
        about = Entry(kind, op, key, user, order, book_id, code)
        wanted = {*refusals, ""} if may_succeed else set(refusals)
        for _ in range(ATTEMPTS - 1):
            entry = self._send(about, path, body, wanted)
            if entry.status not in (0, 429, 503):
                return entry
            pause_s = float(entry.retry_after) if entry.retry_after.isdecimal() else 1.0
            gevent.sleep(min(pause_s, MAX_PAUSE_S))
        return self._send(about, path, body, wanted)

    def _send(self, about: Entry, path: str, body: dict[str, Any], wanted: set[str]) -> Entry:
        """Send it once; '' among what is wanted is a success. It gets an entry in any case, also where the load's end
        cuts it off."""
        entry = copy(about)
        entry.sent_ms = now_ms()
        if entry.sent_ms - self._asked_ms > IDLE_S * 1000:
            self.client.client.clientpool.close()
        self._asked_ms = entry.sent_ms
        headers = {"Authorization": f"Bearer {self.load.token}", "Idempotency-Key": entry.key}
        try:
            with self.client.post(path, json=body, headers=headers, name=entry.op, catch_response=True) as told:
                self._enter(entry, told, wanted)
        finally:
            self.load.ledger.write(entry)
        return entry

    def _enter(self, entry: Entry, told: Any, wanted: set[str]) -> None:
        """Enter what was told, and tell locust whether that is a failure."""
        entry.took_ms = round(told.request_meta["response_time"], 3)
        if not told.status_code:
            entry.refusal = type(told.error).__name__
            told.failure(f"no answer: {entry.refusal}")
            return
        headers = told.headers
        replayed = "Idempotency-Replayed" in headers
        entry.answered(told.status_code, told.content or b"", headers.get("Retry-After", ""), replayed)
        entry.wanted = entry.status in (429, 503) or entry.refusal in wanted
        if entry.wanted and entry.status != 503:
            told.success()
        else:
            told.failure(f"{entry.status} {entry.refusal}")


class Buyer(Shopper):
    """Locks a coupon, pays, and redeems it: the promise of a lock is kept."""

    weight = 10

    def shop(self) -> None:
        """Buy."""
        user, order = self.new_id(), self.new_id()
        book, code = self.coupon(user)
        body = {"userId": user, "orderId": order}
        if code and self.ask("lock", book.book_id, body, "out_of_stock", code=code).got:
            self.pay()
            self.ask("redeem", book.book_id, body | {"orderValue": "50.00"}, code=code)


class Repeater(Shopper):
    """Clicks twice, and once more later: one redemption, and the same answer under the same Idempotency-Key."""

    weight = 2

    def shop(self) -> None:
        """Redeem without a lock, three times."""
        user, key = self.new_id(), uuid4().hex
        book, code = self.coupon(user)
        if not code:
            return
        body = {"userId": user, "orderId": self.new_id(), "orderValue": "20.00"}

        def redeem() -> Entry:
            return self.ask("redeem", book.book_id, body, "out_of_stock", code=code, key=key)

        gevent.joinall([gevent.spawn(redeem), gevent.spawn(redeem)])
        self.pay()
        redeem()


class Abandoner(Shopper):
    """Locks and goes away. When the hold has ended, it is somebody else's."""

    weight = 2

    def shop(self) -> None:
        """Lock, wait until it ended, and lock as another."""
        book = self.book("held")
        code = book.code(random.randrange(book.codes))
        for _ in range(2):
            body = {"userId": self.new_id(), "orderId": self.new_id()}
            self.ask("lock", book.book_id, body, "coupon_locked", code=code)
            gevent.sleep(HOLD_S + 0.1)


class Fighter(Shopper):
    """Wants the last of what all others want now: of a stock, a book's total, a code's uses, a user's."""

    weight = 4

    def shop(self) -> None:
        """One fight of each kind."""
        turn, books = self.load.turn(), self.load.books
        stock, total = books["stock"][turn], books["total"][turn]
        shared, greedy = self.book("shared"), self.book("greedy")
        self.ask("assign", stock.book_id, {"bookId": stock.book_id, "userId": self.new_id()}, "out_of_stock")
        self._redeem(total, random.randrange(total.codes), self.new_id(), "out_of_stock", "coupon_redeemed")
        self._redeem(shared, turn, self.new_id(), "coupon_exhausted")
        number, user = random.randrange(greedy.codes), f"{self.load.plan.mark}-greedy-{turn}"
        self._redeem(greedy, number, user, "user_redemption_limit", "coupon_redeemed")

    def _redeem(self, book: Book, number: int, user: str, *refusals: str) -> None:
        body = {"userId": user, "orderId": self.new_id()}
        self.ask("redeem", book.book_id, body, *refusals, code=book.code(number))


class Guesser(Shopper):
    """Guesses codes; there is none."""

    weight = 1

    def shop(self) -> None:
        """A guess, to lock or to redeem."""
        op = random.choice(("lock", "redeem"))
        code, body = f"G-{uuid4().hex[:16].upper()}", {"userId": self.new_id(), "orderId": self.new_id()}
        self.ask(op, "", body, "coupon_not_found", code=code, may_succeed=False)


class Gifted(Shopper):
    """Checks out with a code, is given a gift, and uses that for the next order."""

    weight = 3

    def shop(self) -> None:
        """Two orders."""
        user = self.new_id()
        book, code = self.coupon(user)
        body = {"userId": user, "orderValue": "80.00"}
        if code and (first := self._check_out(book, body | {"orderId": self.new_id(), "code": code})).gift:
            self.pay()
            self._check_out(self.book("gifts"), body | {"orderId": self.new_id(), "code": first.gift})

    def _check_out(self, book: Book, body: dict[str, Any]) -> Entry:
        return self.ask("checkout", book.book_id, body, "out_of_stock", path="/v1/checkout")
