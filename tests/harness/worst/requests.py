"""The worst case of each script that requests run: the request at the contract's bounds."""

from decimal import Decimal
from typing import Any

from service.engine.deciding.recall import AS_OF
from service.engine.domain.configuration import TierRow
from service.engine.formats import key_names
from service.engine.hot.fencing import Nonce
from service.engine.operations import assign, cards, checkout, coupon_view, gift, lock, redeem, rollback, unassign
from tests.harness.colliding import colliding
from tests.harness.script_runner import EPOCH
from tests.harness.worst.large_shop import HOUR_MS, MINUTE_MS, LargeShop, Run, case

CODE, GIFT, USER, ORDER = "CODE-1", "GIFT-1", "ann", "A-1"
ORDERS = 100
"""Places in an order."""
TIERS = tuple(TierRow(from_e4=n * 10_000, type="percentage", value_e4=10_000) for n in range(1, 21))
HELD, JUDGED = 2000, 1000
"""Books of which one script counts what a user holds, and whose ends it judges (lua/includes/coupon_counts.lua)."""
YEAR_HOURS = 8760
"""The most hours to keep an answer."""
FREE = {"type": "buyXGetY", "value_e4": None, "buy": 1, "get": 1}
_PAIR = {"orderValue": "5", "items": [{"sku": "a", "quantity": 2, "unitPrice": "1"}]}
"""An order that FREE gives a discount."""
LIMITS = {"keys": {"liveLocks": 200_000}, "books": {"locksPerUser": 200_000, "lockedPercent": 100}}


async def _locked(g: LargeShop, size: int, **rules: Any) -> None:
    """A code without limit, with many live locks and 20 ended, and the sets that count them."""
    await g.put_workspace(coupons_per_order=ORDERS, limits=LIMITS)
    settings = {"max_redemptions_per_code": None, "max_redemptions": 2**31 - 1, "max_redemptions_per_user": 2**31 - 1}
    book = await g.book(CODE, low_stock_threshold=1, max_lock_seconds=86_400, **{**settings, **rules})
    await g.locks(CODE, book.book, size, ended=20)


@case("lock", "{size} live locks and 20 that ended, every limit, an order with 99 places, 1,000 items")
async def lock_(g: LargeShop, size: int) -> Run:
    await _locked(g, size, discount=FREE)
    await _places(g, 99, **_PAIR)
    await g.locks(CODE, 1, 0, ended=20)
    return g.run_of(lock.LOCK, CODE, "key", **_order())


async def _places(g: LargeShop, count: int, **more: Any) -> None:
    """Redemptions of the code for the order, each by a user of its own."""
    for number in range(count):
        assert (await g.redeem(CODE, f"v{number}", orderId=ORDER, **more))[0] == 201


async def _token(g: LargeShop) -> str:
    return (await g.lock(CODE, USER, orderId=ORDER, lockSeconds=60))[1]["lockToken"]


@case("extend", "{size} live locks")
async def extend(g: LargeShop, size: int) -> Run:
    await _locked(g, size)
    return g.run_of(lock.EXTEND, CODE, "key", lockToken=await _token(g), lockSeconds=600)


_HELD = {"userId": USER, "orderId": ORDER, "orderValue": Decimal(1)}


@case("lock", "4 budgets, 4 limits of uses, 1,000 shares that ended, 990 of the user")
async def lock_budgets(g: LargeShop, size: int) -> Run:
    await g.budgeted(CODE)
    return g.run_of(lock.LOCK, CODE, "key", **_HELD)


@case("extend", "as this lock")
async def extend_budgets(g: LargeShop, size: int) -> Run:
    await g.budgeted(CODE)
    _, lock_ = await g.lock(CODE, USER, orderId=ORDER, orderValue="1", lockSeconds=60)
    return g.run_of(lock.EXTEND, CODE, "key", lockToken=lock_["lockToken"], lockSeconds=600)


@case("redeem", "as this lock")
async def redeem_budgets(g: LargeShop, size: int) -> Run:
    await g.budgeted(CODE)
    return g.run_of(redeem.REDEEM, CODE, "key", **_HELD)


@case("validate", "as this lock")
async def validate_budgets(g: LargeShop, size: int) -> Run:
    await g.budgeted(CODE)
    return g.run_of(redeem.VALIDATE, None, code=CODE, **_HELD)


@case("unlock", "{size} live locks and 20 that ended")
async def unlock(g: LargeShop, size: int) -> Run:
    await g.put_workspace(limits=LIMITS)
    await _locked(g, size)
    token = await _token(g)
    await g.locks(CODE, 1, 0, ended=20)
    return g.run_of(lock.UNLOCK, CODE, "key", lockToken=token)


def _order(count: int = 1000) -> dict[str, Any]:
    items = [{"sku": f"sku-{n}", "quantity": 1_000_000, "unitPrice": Decimal(9)} for n in range(count)]
    return {"userId": USER, "orderId": ORDER, "orderValue": Decimal(10) ** 10, "items": items}


@case("redeem", "the same, 1,000 items, an order with 99 places of this code")
async def redeem_(g: LargeShop, size: int) -> Run:
    await _locked(g, size, discount=FREE)
    await g.put_workspace(coupons_per_order=ORDERS)
    await _places(g, 99, **_PAIR)
    token = await _token(g)
    await g.locks(CODE, 1, 0, ended=20)
    return g.run_of(redeem.REDEEM, CODE, "key", lockToken=token, **_order())


@case("validate", "{size} live locks, 1,000 items")
async def validate(g: LargeShop, size: int) -> Run:
    await _locked(g, size, discount=FREE)
    assert (await g.redeem(CODE, "bob", **_PAIR))[0] == 201
    return g.run_of(redeem.VALIDATE, None, code=CODE, **_order())


@case("book_stats", "as this lock")
async def book_stats_budgets(g: LargeShop, size: int) -> Run:
    book = await g.budgeted(CODE)
    return Run("book_stats", (g.caller.gate, f"{g.w}w", f"{g.w}x"), (str(book.book_id),))


@case("coupon", "{size} live locks")
async def coupon_(g: LargeShop, size: int) -> Run:
    await _locked(g, size)
    assert (await g.redeem(CODE, "bob"))[0] == 201
    return g.run_of(coupon_view.READ, CODE)


async def _stock(g: LargeShop, size: int, number: int) -> None:
    """200 coupons of a book, each with twenty ended locks and a live one; and a user's coupons of `size` books."""
    now = await g.now()
    for n in range(200):
        code = f"HELD-{n:03d}"
        await g.place(code, number, "u" if n % 2 else "p", now - 100_000 + n, "0 - - 0 21 - - -")
        await g.locks(code, number, 1, ended=20)
    await g.holding(USER, size)


@case("assign_any", "2,000 coupons of as many books, 200 coupons whose locks ended and none free", (92,))
async def assign_any(g: LargeShop, size: int) -> Run:
    """A user with coupons of 2,000 books, as many of them ended as are judged, one below the cap; 200 coupons, each
    with a live lock beside ended ones; a last coupon, missing from its set."""
    size = min(size, HELD)
    await g.put_workspace(max_coupons=size - JUDGED + 1)
    book = await g.book(
        max_redemptions_per_code=21, max_redemptions=2**31 - 1, low_stock_threshold=1, max_codes_per_user=9
    )
    await g.add(book, "LAST-1", expires_ms=await g.now() + 10 * MINUTE_MS)
    await _stock(g, size, book.book)
    await g.link.call("ZREM", f"{g.w}l:{book.book}:x", f"{key_names.bucket('LAST-1')} LAST-1")
    return g.run_of(assign.ASSIGN_ANY, None, "key", bookId=str(book.book_id), userId=USER)


@case("assign_any", "{size} codes in a bucket, one of them free", (0, 92))
async def assign_any_of_many(g: LargeShop, size: int) -> Run:
    codes = colliding(size)
    await g.book()
    book = await g.book(codes[-1])
    await g.hash(f"{g.w}d:{key_names.bucket(codes[0])}", ((code, "1!7-1") for code in codes[:-1]))
    return g.run_of(assign.ASSIGN_ANY, None, "key", bookId=str(book.book_id), userId=USER)


@case("assign_code", "2,000 coupons of as many books, 100 live locks and 20 that ended")
async def assign_code(g: LargeShop, size: int) -> Run:
    size = min(size, HELD)
    await g.put_workspace(max_coupons=size - JUDGED + 1)
    book = await g.book(CODE, max_redemptions_per_code=None, low_stock_threshold=9, max_codes_per_user=9)
    await g.locks(CODE, book.book, 100, user=USER, ended=20)
    await g.holding(USER, size)
    return g.run_of(assign.ASSIGN_CODE, CODE, "key", userId=USER)


@case("unassign", "{size} locks that ended")
async def unassign_(g: LargeShop, size: int) -> Run:
    book = await g.book(CODE, max_redemptions_per_code=None)
    await g.assign(CODE, USER)
    await g.locks(CODE, book.book, 0, user=USER, ended=size)
    return g.run_of(unassign.UNASSIGN, CODE, "key")


@case("gift", "as assign_any", (92,))
async def gift_(g: LargeShop, size: int) -> Run:
    await assign_any(g, size)
    return g.run_of(gift.GIFT, USER, "key", bookId=str(g.books[-1].book_id), orderId=ORDER)


@case("checkout", "as redeem and assign_any together", (92,))
async def checkout_(g: LargeShop, size: int) -> Run:
    run = await redeem_(g, size)
    many = min(size, HELD)
    await g.put_workspace(max_coupons=many - JUDGED + 1, coupons_per_order=ORDERS)
    book = await g.book(max_redemptions_per_code=21, low_stock_threshold=9, max_codes_per_user=9)
    await _stock(g, many, book.book)
    body = {**_order(), "lockToken": run.args[7], "code": CODE, "giftBookId": str(book.book_id)}
    return g.run_of(checkout.CHECKOUT, None, "key", **body)


@case("rollback", "{size} standing redemptions, an order at 100")
async def rollback_(g: LargeShop, size: int) -> Run:
    await _locked(g, 0)
    await _places(g, 99)
    _, body = await g.redeem(CODE, USER, orderId=ORDER)
    await g.zset(f"{g.w}s:{CODE}", ((7 * 16 + 9, f"6-{10**8 + n}") for n in range(size)))
    await g.locks(CODE, 1, 0, ended=20)
    return g.run_of(rollback.ROLLBACK, body["redemptionId"], "key")


@case("rollback_order", "100 coupons of as many books, each with 20 locks that ended; a gift with {size} live locks")
async def rollback_order(g: LargeShop, size: int) -> Run:
    await g.put_workspace(coupons_per_order=ORDERS)
    for number in range(ORDERS):
        code = f"CODE-{number:03d}"
        book = await g.book(
            code, max_redemptions_per_code=3, max_redemptions=999, discount={"type": "fixed", "value_e4": 100}
        )
        await g.assign(code, USER)
        for use in range(2):
            assert (await g.redeem(code, USER, orderValue="5", orderId=f"B-{number}-{use}"))[0] == 201
        assert (await g.redeem(code, USER, orderValue="5", orderId=ORDER))[0] == 201
        await g.locks(code, book.book, 0, user=USER, ended=20)
    gifts = await g.book(GIFT, max_redemptions_per_code=None)
    assert (await g.gift(gifts, USER, ORDER))[0] == 201
    await g.locks(GIFT, gifts.book, size, user=USER, ended=20)
    return g.run_of(rollback.ROLLBACK_ORDER, ORDER, "key")


@case("adjust_card", "{size} live locks and 1,000 that ended", (0, 92))
async def adjust_card(g: LargeShop, size: int) -> Run:
    card = {"type": "balance", "value_e4": 10**12}
    book = await g.book(CODE, discount=card, max_redemptions_per_code=None, low_stock_threshold=1)
    await g.locks(CODE, book.book, size, ended=1000)
    bucket = key_names.bucket(CODE)
    await g.link.call("HSET", key_names.accounts(g.caller.prefix, bucket), CODE, f"{10**12} 0 0 0 1")
    return g.run_of(cards.CREDIT, CODE, "key", amount=Decimal(1))


@case("book_stats", "{size} locked coupons")
async def book_stats(g: LargeShop, size: int) -> Run:
    """A book with so many locked coupons, and a discount of 20 tiers."""
    book = await g.book(CODE, discount={"type": "tiered", "tiers": TIERS})
    await g.zset(
        f"{g.w}l:1:u", ((until_ms, f"1 X-{n}") for n, until_ms in enumerate([await g.now() + MINUTE_MS] * size))
    )
    return Run("book_stats", (g.caller.gate, f"{g.w}w", f"{g.w}x"), (str(book.book_id),))


@case("coupon_locks", "{size} live locks")
async def coupon_locks(g: LargeShop, size: int) -> Run:
    book = await g.book(CODE, max_redemptions_per_code=None)
    await g.locks(CODE, book.book, size, user=USER)
    bucket = key_names.bucket_text(CODE)
    names = (g.caller.gate, f"{g.w}w", key_names.directory(g.w, bucket), key_names.coupon(g.w, CODE))
    return Run("coupon_locks", names, (CODE, bucket))


@case("order_locks", "an order with 100 locks of codes with a single use, and with several uses")
async def order_locks(g: LargeShop, size: int) -> Run:
    priced = {"orderValue": "80.00", "orderId": ORDER}
    for per_code in (1, 2):
        codes = [f"CODE-{per_code}-{number}" for number in range(ORDERS)]
        await g.book(*codes, max_redemptions_per_code=per_code, discount={"type": "fixed", "value_e4": 100})
        for number, code in enumerate(codes):
            assert (await g.lock(code, f"v{number}", **priced))[0] == 201
    names = (g.caller.gate, f"{g.w}w", key_names.orders(g.w, key_names.bucket_text(ORDER)))
    return Run("order_locks", (*names, key_names.marks_of_order(g.w, ORDER)), (ORDER,))


@case("user_coupons", "2,000 coupons of as many books")
async def user_coupons(g: LargeShop, size: int) -> Run:
    await g.book()
    await g.holding(USER, min(size, HELD))
    return Run("user_coupons", (g.caller.gate, f"{g.w}w"), (USER, "0"))


@case("claim_key", "answers that end in as many hours as a year has")
async def claim(g: LargeShop, size: int) -> Run:
    await _kept(g, 1)
    return Run("claim_key", _idempotent(g), ("f", 60_000, "", 1 << 40))


@case("store_answer", "an answer of 0.9 MB")
async def answered(g: LargeShop, size: int) -> Run:
    gate, settings, entry, kept = _idempotent(g)
    await g.carry_out(Run("claim_key", _idempotent(g), ("f", 60_000, "", 1 << 40)))
    payload = "200 - " + "x" * 9 * size
    return Run("store_answer", (gate, settings, entry, g.caller.outbox, kept), ("f", payload, "{}"))


@case("read_records", "50 redemptions in the outbox")
async def records(g: LargeShop, size: int) -> Run:
    """50 redemptions of as many books, all in the outbox, after a deletion of users."""
    await g.link.call("HSET", key_names.moved(g.w), "last", f"9/{EPOCH - 1}-1")
    for number in range(50):
        await g.book(f"CODE-{number}")
        assert (await g.redeem(f"CODE-{number}", USER, orderId=ORDER + str(number)))[0] == 201
    entries = await g.link.call("XRANGE", g.caller.outbox, "-", "+")
    names = [name for name, fields in entries if fields[1].startswith("R ")]
    assert len(names) == 50
    return Run("read_records", (g.caller.gate, f"{g.w}w"), (" ".join(names),))


@case("read_records", "50 redemptions that are handed in")
async def records_handed_in(g: LargeShop, size: int) -> Run:
    run = await records(g, size)
    reply = await g.carry_out(run)
    await g.link.call("XTRIM", g.caller.outbox, "MAXLEN", 0)
    facts = [part for name, record in zip(reply[1::3], reply[2::3], strict=True) for part in (name, record)]
    return run._replace(args=(*run.args, AS_OF, f"{Nonce('nonce').shared}:{EPOCH}/9/{EPOCH - 1}-1", *facts))


def _idempotent(g: LargeShop) -> tuple[str, str, str, str]:
    return g.caller.gate, f"{g.w}w", f"{g.w}i:key", key_names.kept_bytes(g.w)


async def _kept(g: LargeShop, first: int) -> None:
    """Count one byte in each hour of a year from now + `first`."""
    hour = await g.now() // HOUR_MS + first
    await g.hash(key_names.kept_bytes(g.w), ((str(number), 1) for number in range(hour, hour + YEAR_HOURS)))
