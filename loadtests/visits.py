"""What buyers do on a visit, what the merchant changes, and which responses are expected."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from loadtests.ledger import CREATED, Entry
from loadtests.plan import HOLD_S, Book, Kind

if TYPE_CHECKING:
    from loadtests.buyers import Crowd

BRING = 0.7
"""The share of buyers who bring a code of the sale, while it has some; others are assigned one."""
TAKERS, GREEDY, ORDERS = 30, 6, 12
"""How many users share a limit of codes or of redemptions, and how many orders are shared."""
LOCKED = frozenset({201, 200})


class Visit:
    """A visit by one kind of buyer."""

    def __init__(self, crowd: "Crowd", buyer: str) -> None:
        self.crowd, self.ledger, self.random, self._buyer = crowd, crowd.ledger, crowd.random, buyer

    def book(self, kind: Kind) -> Book:
        """The book of a kind that is used now."""
        return self.crowd.turn(kind)

    def id(self, kind: str = "user") -> str:
        """A new user or order."""
        return f"{self.crowd.mark}-{kind}-{uuid4().hex[:12]}"

    def order(self) -> dict[str, Any]:
        """A new user and a new order."""
        return {"userId": self.id(), "orderId": self.id("order")}

    def lost(self, *refusals: str) -> tuple[str, ...]:
        """Refusals that are expected if responses may be lost."""
        return refusals if self.crowd.may_lose else ()

    async def ask(
        self, op: str, path: str, body: dict[str, Any], *refusals: str, book: str = "", **options: Any
    ) -> Entry:
        """Send a request; its final entry."""
        return await self.ledger.ask(op, path, body, *refusals, buyer=self._buyer, book=book, **options)

    async def redeem(
        self,
        book: Book | None,
        code: str,
        *refusals: str,
        wanted: Collection[int] = CREATED,
        key: str | None = None,
        **fields: Any,
    ) -> Entry:
        """Redeem a code, by a new user for a new order if no other is given."""
        body = self.order() | {"orderValue": "20.00"} | fields
        about = {"book": book.book_id if book else "", "code": code, "recorded": self.ledger.wants_record()}
        return await self.ask("redeem", f"/v1/coupons/redeem/{code}", body, *refusals, wanted=wanted, key=key, **about)

    async def lock(self, book: Book, code: str, body: dict[str, Any], *refusals: str, leave: bool = False) -> Entry:
        """Lock a code with the price of the order; unlock it at the end unless `leave`."""
        body = {"orderValue": "20.00"} | body
        about: dict[str, Any] = {"book": book.book_id, "code": code, "wanted": LOCKED}
        locked = await self.ask("lock", f"/v1/coupons/lock/{code}", body, *refusals, **about)
        if locked.succeeded and not leave:
            self.crowd.tokens[locked.response["lockToken"]] = code
        return locked

    async def unlock(self, locked: Entry) -> None:
        token = locked.response.get("lockToken", "")
        path = f"/v1/coupons/unlock/{locked.code}"
        await self.ask("unlock", path, {"lockToken": token}, wanted={204}, code=locked.code)

    async def assign(self, book: Book, user: str, *refusals: str) -> Entry:
        body, recorded = {"bookId": book.book_id, "userId": user}, self.ledger.wants_record()
        return await self.ask("assign", "/v1/coupons/assign", body, *refusals, book=book.book_id, recorded=recorded)

    async def check_out(self, book: Book, body: dict[str, Any], *refusals: str) -> Entry:
        """Check out, with a code or for a gift alone."""
        body = {"orderId": self.id("order"), "orderValue": "30.00"} | body
        about = {"book": book.book_id, "code": body.get("code", ""), "recorded": self.ledger.wants_record()}
        return await self.ask("checkout", "/v1/checkout", body, *refusals, *_of_total(book), **about)

    async def coupon(self, user: str) -> tuple[Book, str]:
        """A coupon for this user alone, and its book: the sale's next code, or an assigned one; '' if there is none."""
        sale = self.book("sale")
        stocked = "stocked" in self.crowd.books
        if (not stocked or self.random.random() < BRING) and (code := self.crowd.next_code(sale)):
            return sale, code
        if not stocked:
            return sale, ""
        assigned = await self.assign(self.book("stocked"), user, "out_of_stock")
        return self.book("stocked"), assigned.response.get("code", "")


Doing = Callable[[Visit], Awaitable[Any]]
VISITS: list[tuple[str, int, Doing]] = []
"""The kind of buyer, its share of visits, and what it does."""


def usual_mix() -> dict[str, int]:
    """How many of the visits are by each kind of buyer."""
    mix: Counter[str] = Counter()
    for buyer, weight, _ in VISITS:
        mix[buyer] += weight
    return mix


def weigh(mix: Mapping[str, float]) -> list[float]:
    """The weight of each of VISITS, if kinds of buyers have these shares. ValueError for an unknown kind, or none."""
    usual = usual_mix()
    if not mix.keys() <= usual.keys() or not sum(mix.values()) > 0 <= min(mix.values()):
        raise ValueError(f"a mix is of {', '.join(usual)}, such as Buyer=9,Guesser=1")
    return [weight * mix.get(buyer, 0) / usual[buyer] for buyer, weight, _ in VISITS]


def visits(buyer: str, weight: int) -> Callable[[Doing], Doing]:
    def add(function: Doing) -> Doing:
        VISITS.append((buyer, weight, function))
        return function

    return add


def _of_total(book: Book) -> tuple[str, ...]:
    return ("out_of_stock",) if book.total else ()


@visits("Buyer", 6)
async def lock_pay_redeem(visit: Visit) -> None:
    """Lock, pay, redeem: a redemption under a lock must succeed."""
    body = visit.order()
    book, code = await visit.coupon(body["userId"])
    if not code or not (locked := await visit.lock(book, code, body, *_of_total(book))).succeeded:
        return
    await visit.crowd.pay()
    redeemed = await visit.redeem(book, code, *visit.lost("lock_lost"), **body, lockToken=locked.response["lockToken"])
    if redeemed.refusal == "lock_lost":
        await visit.redeem(book, code, **body)


@visits("Buyer", 3)
async def redeem_alone(visit: Visit) -> None:
    """Redeem without a lock."""
    user = visit.id()
    book, code = await visit.coupon(user)
    if code:
        await visit.redeem(book, code, *_of_total(book), userId=user)


@visits("Buyer", 1)
async def assign_then_redeem(visit: Visit) -> None:
    user, book = visit.id(), visit.book("sale")
    if code := visit.crowd.next_code(book):
        about: dict[str, Any] = {"book": book.book_id, "code": code, "recorded": visit.ledger.wants_record()}
        await visit.ask("assign", f"/v1/coupons/assign/{code}", {"userId": user}, **about)
        await visit.redeem(book, code, *_of_total(book), userId=user)


@visits("Returner", 1)
async def assign_and_take_back(visit: Visit) -> None:
    book = visit.book("sale")
    if code := visit.crowd.next_code(book):
        about: dict[str, Any] = {"book": book.book_id, "code": code}
        await visit.ask("assign", f"/v1/coupons/assign/{code}", {"userId": visit.id()}, **about)
        refusals = visit.lost("coupon_not_assigned")
        await visit.ask("unassign", f"/v1/coupons/unassign/{code}", {}, *refusals, wanted={200}, **about)


@visits("Repeater", 2)
async def click_twice(visit: Visit) -> None:
    """Redeem twice at once and once later under one key: one redemption, one response."""
    key, body = uuid4().hex, visit.order()
    book, code = await visit.coupon(body["userId"])
    if not code:
        return
    refusals = (*_of_total(book), *visit.lost("order_already_used"))
    await asyncio.gather(*(visit.redeem(book, code, *refusals, key=key, **body) for _ in range(2)))
    await visit.crowd.pay()
    await visit.redeem(book, code, *refusals, key=key, **body)


@visits("Gifted", 2)
async def use_the_gift(visit: Visit) -> None:
    """Check out, and pay the next order with the gift."""
    user, gifts = visit.id(), visit.book("gifts")
    book, code = await visit.coupon(user)
    if code and (gift := (await visit.check_out(book, {"userId": user, "code": code})).assignment):
        await visit.crowd.pay()
        refusals = visit.lost("coupon_assigned_to_other", "coupon_redeemed")
        await visit.check_out(gifts, {"userId": user, "code": gift["code"]}, *refusals)


@visits("Gifted", 1)
async def take_a_gift(visit: Visit) -> None:
    """Check out without a code, for the gift alone; or be assigned one."""
    user, gifts = visit.id(), visit.book("gifts")
    if visit.random.random() < 0.5:
        await visit.check_out(gifts, {"userId": user, "giftBookId": gifts.book_id})
    else:
        await visit.assign(gifts, user, "out_of_stock")


@visits("Abandoner", 1)
async def lock_then_unlock(visit: Visit) -> None:
    if code := visit.crowd.next_code(visit.book("sale")):
        locked = await visit.lock(visit.book("sale"), code, visit.order(), *_of_total(visit.book("sale")))
        if locked.succeeded:
            await visit.unlock(locked)


@visits("Abandoner", 1)
async def go_away(visit: Visit) -> None:
    """Lock a shared code and leave the lock: after it has expired, another user may lock the code."""
    book = visit.book("held")
    if visit.crowd.leaves_locks:
        code = book.code(visit.random.randrange(book.codes))
        await visit.lock(book, code, visit.order(), "coupon_locked", leave=True)
        if not visit.crowd.may_lose:
            await asyncio.sleep(HOLD_S + 0.1)
            await visit.lock(book, code, visit.order(), "coupon_locked", leave=True)


@visits("Abandoner", 1)
async def leave_a_total(visit: Visit) -> None:
    """Leave a lock that holds one use of the book's total."""
    book = visit.book("left")
    if visit.crowd.leaves_locks and (code := visit.crowd.next_code(book)):
        await visit.lock(book, code, visit.order(), "out_of_stock", leave=True)


@visits("Returner", 1)
async def roll_back(visit: Visit) -> None:
    """Redeem, and roll back twice at once: one of the two is refused."""
    book, code = await visit.coupon(user := visit.id())
    if not code or not (redemption := (await visit.redeem(book, code, *_of_total(book), userId=user)).redemption):
        return
    await _roll_back_twice(visit, book, code, redemption)


async def _roll_back_twice(visit: Visit, book: Book, code: str, redemption: dict[str, Any]) -> None:
    body = {"reason": "drill", "restore": visit.random.random() < 0.7}
    path, about = f"/v1/redemptions/{redemption['redemptionId']}/rollback", {"code": code, "book": book.book_id}
    # Not found if the redemption is lost by then; the judge checks that.
    refusals = ("already_rolled_back", *visit.lost("redemption_not_found"))
    recorded = visit.ledger.wants_record()
    asked = (visit.ask("rollback", path, body, *refusals, wanted={200}, recorded=recorded, **about) for _ in range(2))
    await asyncio.gather(*asked)


@visits("Returner", 1)
async def roll_back_an_order(visit: Visit) -> None:
    """Check out, and roll the order back with its gift."""
    book, code = await visit.coupon(user := visit.id())
    if not code:
        return
    bought = await visit.check_out(book, {"userId": user, "code": code})
    if bought.succeeded:
        path, recorded = f"/v1/orders/{bought.order}/rollback", visit.ledger.wants_record()
        refusals = visit.lost("order_not_found")
        await visit.ask("order", path, {"reason": "drill"}, *refusals, wanted={200}, recorded=recorded)


@visits("Fighter", 1)
async def want_a_code(visit: Visit) -> None:
    """Redeem a code with several uses that many want."""
    book = visit.book("shared")
    await visit.redeem(book, book.code(visit.random.randrange(book.codes)), "coupon_exhausted")


@visits("Fighter", 1)
async def want_a_code_without_key(visit: Visit) -> None:
    """Redeem without a key: a driver that repeats the request by itself spends two uses."""
    book = visit.book("shared")
    code, body = book.code(visit.random.randrange(book.codes)), {"userId": visit.id(), "orderValue": "20.00"}
    about: dict[str, Any] = {"book": book.book_id, "code": code, "key": ""}
    await visit.ask("redeem", f"/v1/coupons/redeem/{code}", body, "coupon_exhausted", **about)


@visits("Fighter", 1)
async def want_more_than_a_user_may(visit: Visit) -> None:
    """Redeem for a user with a limit."""
    book = visit.book("greedy")
    if code := visit.crowd.next_code(book):
        user = f"{visit.crowd.mark}-greedy-{visit.random.randrange(max(GREEDY, book.codes // 30))}"
        await visit.redeem(book, code, "user_redemption_limit", userId=user)


@visits("Fighter", 2)
async def want_a_total(visit: Visit) -> None:
    """Redeem a code of a book with a total."""
    book = visit.book("total")
    if code := visit.crowd.next_code(book):
        await visit.redeem(book, code, "out_of_stock")


@visits("Fighter", 1)
async def want_a_total_by_lock(visit: Visit) -> None:
    """Lock a code of a book with a total: the lock holds one use."""
    await _lock_then_decide(visit, visit.book("reserved"))


@visits("Fighter", 2)
async def want_a_budget_by_lock(visit: Visit) -> None:
    """Lock a code of a book with a budget: the lock holds its discount."""
    await _lock_then_decide(visit, visit.book("budget"))


@visits("Returner", 1)
async def want_a_budget(visit: Visit) -> None:
    """Redeem a code of a book with a budget; some give it back."""
    book = visit.book("budget")
    if code := visit.crowd.next_code(book):
        redeemed = await visit.redeem(book, code, *book.used_up)
        if redeemed.redemption and visit.random.random() < 0.3:
            await _roll_back_twice(visit, book, code, redeemed.redemption)


async def _lock_then_decide(visit: Visit, book: Book) -> None:
    """Lock a code, and redeem or unlock it."""
    if not (code := visit.crowd.next_code(book)):
        return
    body = visit.order()
    locked = await visit.lock(book, code, body, *book.used_up)
    if not locked.succeeded:
        return
    await asyncio.sleep(visit.random.uniform(0, 0.3))
    if visit.random.random() < 0.3:
        token = locked.response["lockToken"]
        await visit.redeem(book, code, *visit.lost("lock_lost"), **body, lockToken=token)
    else:
        await visit.unlock(locked)


def _card_order(visit: Visit) -> dict[str, Any]:
    return visit.order() | {"orderValue": f"{visit.random.randint(1, 400) / 100:.2f}"}


@visits("Returner", 1)
async def pay_by_card(visit: Visit) -> None:
    """Pay an order with a part of a card that others use, too; some give it back."""
    book = visit.book("cards")
    code = book.code(visit.random.randrange(book.codes))
    redeemed = await visit.redeem(book, code, *book.used_up, **_card_order(visit))
    if redeemed.redemption and visit.random.random() < 0.5:
        await _roll_back_twice(visit, book, code, redeemed.redemption)


@visits("Cardholder", 1)
async def hold_and_pay_by_card(visit: Visit) -> None:
    """Hold a part of a card, and pay with it, or let it go."""
    book, body = visit.book("cards"), _card_order(visit)
    code = book.code(visit.random.randrange(book.codes))
    locked = await visit.lock(book, code, body, *book.used_up)
    if not locked.succeeded:
        return
    await visit.crowd.pay()
    if visit.random.random() < 0.7:
        token = locked.response["lockToken"]
        await visit.redeem(book, code, *visit.lost("lock_lost"), **body, lockToken=token)
    else:
        await visit.unlock(locked)


@visits("Fighter", 1)
async def want_the_last_code(visit: Visit) -> None:
    """Assign one of a few codes."""
    await visit.assign(visit.book("stock"), visit.id(), "out_of_stock")


@visits("Fighter", 1)
async def want_more_codes_than_a_user_may(visit: Visit) -> None:
    """Assign a code to a user with a limit of codes."""
    user = f"{visit.crowd.mark}-taker-{visit.random.randrange(TAKERS)}"
    await visit.assign(visit.book("assigned"), user, "user_code_limit", "out_of_stock")


@visits("Fighter", 1)
async def want_a_place_in_an_order(visit: Visit) -> None:
    """Redeem for an order that others also use."""
    sale = visit.book("sale")
    if code := visit.crowd.next_code(sale):
        order = f"{visit.crowd.mark}-order-{visit.random.randrange(ORDERS)}"
        await visit.redeem(sale, code, "order_already_used", *_of_total(sale), orderId=order)


@visits("Guesser", 1)
async def guess(visit: Visit) -> None:
    """Lock or redeem a code that does not exist."""
    op, code = visit.random.choice(("lock", "redeem")), f"G-{uuid4().hex[:16].upper()}"
    await visit.ask(op, f"/v1/coupons/{op}/{code}", visit.order(), "coupon_not_found", wanted=(), code=code)


class Merchant(Visit):
    """Changes books and codes."""

    async def change(self) -> None:
        """Create a book, add codes, deactivate one, set a limit; each change must be in force at once."""
        codes = [f"{self.crowd.mark.upper()}-M-{uuid4().hex[:12].upper()}" for _ in range(4)]
        made = await self.ask("book", "/v1/books", {"name": f"Load {self.crowd.mark}"})
        if not made.succeeded:
            return
        book = Book(made.response["bookId"], "merchant", "", 0)
        await self._upload(book, codes)
        used, off, *_, last = codes
        path, about = f"/v1/coupons/{off}", {"book": book.book_id, "code": off}
        switched = await self.ask("switch", path, {"status": "inactive"}, wanted={200}, method="PATCH", **about)
        if switched.succeeded:
            await self.redeem(book, off, "coupon_inactive", wanted=())
        while not self.crowd.ended:
            about = {"book": book.book_id, "code": used, "recorded": True}
            body = self.order() | {"orderValue": "20.00"}
            if (await self.ask("redeem", f"/v1/coupons/redeem/{used}", body, **about)).durability == "recorded":
                break  # else it may be lost, and the limit not reached
            used = f"{codes[0]}-{uuid4().hex[:8].upper()}"
            await self._upload(book, [used])
        else:
            return
        path, about = f"/v1/books/{book.book_id}", {"book": book.book_id, "code": last}
        limited = await self.ask("limit", path, {"maxRedemptions": 1}, wanted={200}, method="PATCH", **about)
        if limited.succeeded:
            await self.redeem(book, last, "out_of_stock", wanted=())

    async def _upload(self, book: Book, codes: list[str]) -> None:
        path = f"/v1/books/{book.book_id}/codes"
        await self.ask("upload", path, {"codes": codes}, wanted={200}, book=book.book_id)
