"""The worker's scripts at their bounds."""

from typing import Any

from service.common.byte_runs import SMALL_BYTES
from service.engine.formats import key_names
from service.engine.formats.bounds import counter_names
from service.engine.hot.inspection import ITEMS_A_RUN
from service.engine.worker.opening.restorer import CODES_A_RUN, EVENTS_A_RUN
from service.server.in_postgres.budget_rows import USERS_A_PAGE
from service.server.in_redis.pseudonyms import KEYS_A_RUN, THINGS_A_RUN
from service.server.reconcile.coupon_differences import Coupons
from service.server.tasks import retention
from tests.harness.colliding import colliding
from tests.harness.script_runner import EPOCH
from tests.harness.worst.large_shop import HOUR_MS, MINUTE_MS, LargeShop, Run, case
from tests.harness.worst.requests import CODE, ORDERS, USER

GONE = "deleted-1"


@case("erase_user", "10 gifts with 100 live locks each")
async def erase_user(g: LargeShop, size: int) -> Run:
    words: list[Any] = []
    book = await g.book(max_redemptions_per_code=None, max_redemptions=2**31 - 1)
    for number in range(THINGS_A_RUN):
        code, order = f"CODE-{number:03d}", f"A-{number}"
        await g.add(book, code)
        assert (await g.gift(book, USER, order))[0] == 201
        await g.locks(code, book.book, 100, user=USER, ended=20)
        assigned = (await g.link.call("GET", f"{g.w}c:{code}")).split(" ")[2]
        words += ["c", code, key_names.bucket(code), assigned, order, key_names.bucket(order)]
    names = (g.caller.gate, f"{g.w}w", g.caller.outbox)
    return Run("erase_user", names, (USER, key_names.bucket(USER), GONE, key_names.bucket(GONE), *words))


@case("sweep_locks", "20 coupons, one with {size} locks that ended")
async def sweep_locks(g: LargeShop, size: int) -> Run:
    book = await g.book(max_redemptions_per_code=None, max_redemptions=2**31 - 1)
    now = await g.now()
    for number in range(20):
        code = f"CODE-{number:03d}"
        await g.place(code, book.book, "p", now - MINUTE_MS, "0 - - 0 0 - - -")
        await g.locks(code, book.book, 0, ended=size if number == 0 else 20)
    return Run("sweep_locks", (g.caller.gate, f"{g.w}w"), (book.book, "p"))


@case("count_storage", "512 books with locked codes and shares of budgets, a year's hours of answers that are over")
async def count_storage(g: LargeShop, size: int) -> Run:
    settings = await g.link.call("GET", key_names.book(g.w, (await g.budgeted(CODE)).book))
    for number in range(2, 513):
        await g.link.call("HSET", f"{g.w}x", f"book-{number}", number)
        await g.link.call(
            "HSET", f"{g.w}n:{number}", "codes", 1, "taken", 1, "accounts", 1, "lockBytes", 1, "issued", 1
        )
        await g.link.call("SET", key_names.book(g.w, number), settings)
        for name in (f"l:{number}:u", f"l:{number}:a", f"bl:{number}"):
            await g.link.call("ZADD", f"{g.w}{name}", *(part for n in range(3) for part in (1, f"7 CODE-{n}")))
    await g.hash(f"{g.w}y", ((f"h{number}", 1) for number in range(8760)))
    return Run("count_storage", (g.caller.gate, f"{g.w}w", f"{g.w}x", f"{g.w}y"), ("0",))


@case("count_before", "a book's sums, and 400 users")
async def count_before(g: LargeShop, size: int) -> Run:
    book = await g.budgeted(CODE)
    state, generation = f"{book.counted_from} 7-0 -", book.counted_from
    await g.link.call("HSET", f"{g.w}n:{book.book}", "accounts", state)
    things: list[Any] = []
    for period in ("l", "d1", "m1"):
        things += [word for name in counter_names(generation, period) for word in ("b", name, 5, "-")]
    for number in range(USERS_A_PAGE):
        things += ("u", f"u-{number}", key_names.bucket(f"u-{number}"), "l:5:1 d1:5:1 m1:5:1")
    args = (book.book, generation, state, generation, *things)
    return Run("count_before", (g.caller.gate, f"{g.w}w", g.caller.outbox), args)


@case("put_storage", "one")
async def put_storage(g: LargeShop, size: int) -> Run:
    return Run("put_storage", (g.caller.gate, f"{g.w}w", f"{g.w}y"), ("!1", 5, 4))


@case("put_workspace", "one")
async def put_workspace(g: LargeShop, size: int) -> Run:
    text = (await g.link.call("GET", f"{g.w}w")).partition(" ")[2]
    return Run("put_workspace", (g.caller.gate, f"{g.w}w", f"{g.w}m", key_names.newest(0)), (99, text))


@case("put_book", "one")
async def put_book(g: LargeShop, size: int) -> Run:
    await g.book()
    text = (await g.link.call("GET", f"{g.w}b:1")).partition(" ")[2]
    return Run("put_book", (g.caller.gate, f"{g.w}w", f"{g.w}x", f"{g.w}b:1", key_names.newest(0)), (99, text, 1))


@case("put_user", "one")
async def put_user(g: LargeShop, size: int) -> Run:
    await g.user(USER, 1)
    return Run("put_user", (g.caller.gate, f"{g.w}w", f"{g.w}u:{USER}", key_names.newest(0)), (99, 2))


@case("put_codes", "200 owned coupons with locks, one with {size}")
async def put_codes(g: LargeShop, size: int) -> Run:
    book = await g.book(max_redemptions_per_code=None)
    now, args = await g.now(), list[Any]()
    for number in range(200):
        code = f"CODE-{number:03d}"
        await g.add(book, code, owner_id=USER, expires_ms=now + MINUTE_MS)
        await g.locks(code, book.book, size if number == 0 else 1, user=USER)
        args += [key_names.bucket(code), code, f"{USER} {now} - {now + 2 * MINUTE_MS} 1"]
    names = (g.caller.gate, f"{g.w}w", key_names.newest(0))
    return Run("put_codes", names, (book.book, 999, "", *args))


@case("advance_config", "one")
async def seen(g: LargeShop, size: int) -> Run:
    return Run("advance_config", (g.caller.gate, key_names.config(0), key_names.newest(0)), (0, 5))


@case("remove_keys", "500 hashes, one of {size} fields")
async def clear(g: LargeShop, size: int) -> Run:
    for number in range(500):
        await g.hash(f"{g.w}d:{number}", ((f"CODE-{n}", "1") for n in range(size if number == 0 else 100)))
    return Run("remove_keys", (g.caller.gate,), [f"{g.w}d:{number}" for number in range(500)])


@case("fill_pool", "499 buckets of 4 codes, one of {size} in as many books")
async def fill_pool(g: LargeShop, size: int) -> Run:
    codes = colliding(size)
    await g.hash(f"{g.w}d:{key_names.bucket(codes[0])}", ((code, n) for n, code in enumerate(codes, 1)))
    for number in range(499):
        await g.hash(f"{g.w}d:{number}", ((f"CODE-{n}", 4 * number + n + 1) for n in range(4)))
    return Run("fill_pool", (g.caller.gate, f"{g.w}w"), [*range(499), key_names.bucket(codes[0])])


@case("compare_pools", "buckets of 999 and 1,999 codes in as many books, one of {size}")
async def pools(g: LargeShop, size: int) -> Run:
    """200 buckets, no counts: one of `size` codes, two of 999 and 1,999 codes of as many books, the rest empty."""
    await g.hash(f"{g.w}d:0", ((f"CODE-{n}", "1") for n in range(size)))
    for bucket, codes in ((1, 999), (2, 1_999)):
        await g.hash(f"{g.w}d:{bucket}", ((f"CODE-{n}", n) for n in range(1, codes + 1)))
    return Run("compare_pools", (g.caller.gate, f"{g.w}w"), ("1", "", *range(200)))


@case("record_progress", "one")
async def mark(g: LargeShop, size: int) -> Run:
    return Run("record_progress", (g.caller.gate, key_names.mend(0), key_names.layout(0)), ("", key_names.LAYOUT))


@case("complete_recovery", "one")
async def mended(g: LargeShop, size: int) -> Run:
    """The second entry of an epoch."""
    return Run("complete_recovery", (g.caller.gate, g.caller.outbox), ("nonce",))


@case("apply_events", "251 redemptions for orders with 99 places")
async def redo(g: LargeShop, size: int) -> Run:
    """A run's redemptions of one code with `size` live and 20 expired locks, for orders with 99 others each."""
    await g.book(CODE, max_redemptions_per_code=None, discount={"type": "fixed", "value_e4": 1})
    await g.locks(CODE, 1, size, ended=20)
    now, args = await g.now(), list[Any]()
    full = " ".join(f"6-{n}:{n}" if n > 1 else f"6-{n}" for n in range(1, ORDERS))
    for number in range(EVENTS_A_RUN + 1):
        order, user = f"A-{number}", f"u{number}"
        await g.link.call("HSET", f"{g.w}o:{key_names.bucket(order)}", order, full)
        decided = f"R 1 1 {CODE} {user} {order} 50000 USD 2 1 {now} 100"
        buckets = f"{key_names.bucket(CODE)} {key_names.bucket(order)} 0 - - {key_names.bucket(user)}"
        args += [f"{decided} {buckets}", f"{EPOCH}-{number + 1}", ""]
    return Run("apply_events", (g.caller.gate, key_names.mend(0)), (f"{EPOCH}-{EVENTS_A_RUN}", *args))


@case("apply_events", "251 rollbacks for orders with 100 places")
async def redo_rollbacks(g: LargeShop, size: int) -> Run:
    run = await redo(g, size)
    await g.ready(run)
    assert await g.carry_out(run) == [0]
    now, args = await g.now(), list[Any]()
    for number in range(EVENTS_A_RUN + 1):
        order, user = f"A-{number}", f"u{number}"
        decided = f"B 1 1 {CODE} {user} {order} - {now} 1 {key_names.bucket(CODE)} {key_names.bucket(order)} -"
        of = f"{EPOCH}-{number + 1} 1 {key_names.bucket(user)} {now}"
        args += [decided, f"{EPOCH}-{EVENTS_A_RUN + number + 2}", of]
    return Run("apply_events", run.names, (f"{EPOCH}-{2 * EVENTS_A_RUN}", *args))


@case("restore_keys", "500 entries that end in as many hours")
async def restore_keys(g: LargeShop, size: int) -> Run:
    args = [part for n in range(1, 501) for part in (f"{g.w}i:key-{n}", "f 0 200 - x", n * HOUR_MS)]
    return Run("restore_keys", (g.caller.gate,), args)


@case("read_values", "coupons with 1,000 standing redemptions each")
async def look(g: LargeShop, size: int) -> Run:
    """As many coupons as one look reads, each with more standing redemptions than are read."""
    args: list[Any] = []
    for number in range(Coupons.at_once):
        await g.zset(f"{g.w}s:CODE-{number}", ((1, f"7-{n}") for n in range(max(1000, size // 100))))
        args += ["Z", f"{g.w}s:CODE-{number}", ""]
        args += [part for n in range(7) for part in ("h", f"{g.w}d:{n}", f"CODE-{number}")]
    names = (g.caller.gate, g.caller.outbox, key_names.config(0), key_names.newest(0))
    return Run("read_values", names, args[: ITEMS_A_RUN * 3])


@case("read_values", "480 hashes of locks of cards, one of 1,000 locks")
async def look_at_locks(g: LargeShop, size: int) -> Run:
    book = await g.book("CODE-1", max_redemptions_per_code=None)
    await g.locks("CODE-1", book.book, 1000)
    names = (g.caller.gate, g.caller.outbox, key_names.config(0), key_names.newest(0))
    things = [("H", key_names.locks(g.caller.prefix, f"CODE-{n}"), "") for n in range(1, 481)]
    return Run("read_values", names, [part for thing in things for part in thing])


@case("read_values", "a book with 1,000 locked cards")
async def look_at_cards(g: LargeShop, size: int) -> Run:
    for n in range(1000):
        await g.link.call("ZADD", f"{g.w}l:1:p", 1, f"{n} CARD-{n}")
        await g.link.call("HSET", f"{g.w}m:{n}", f"CARD-{n}", "9 0 0 0 5")
    names = (g.caller.gate, g.caller.outbox, key_names.config(0), key_names.newest(0))
    return Run("read_values", names, ("L", g.w, "1"))


@case("repair", "1,000 fields, a key of the wrong type with {size}")
async def repair(g: LargeShop, size: int) -> Run:
    await g.hash(f"{g.w}c:CODE-1", ((f"field-{n}", "x") for n in range(size)))
    args = ["t", f"{g.w}c:CODE-1", "", "=hash", "-"]
    args += [part for n in range(999) for part in ("h", f"{g.w}d:{n}", "CODE-1", "-", "=1")]
    return Run("repair", (g.caller.gate,), args)


@case("drop_wrong", "10 keys, one with {size} fields")
async def drop_wrong(g: LargeShop, size: int) -> Run:
    names = [key_names.mend(0), *(f"{g.w}{number}" for number in range(9))]
    for name in names:
        await g.hash(name, ((f"field-{n}", "x") for n in range(size if name == names[0] else 1)))
    return Run("drop_wrong", (g.caller.gate,), (EPOCH + 1, *(field for name in names for field in (name, "string"))))


@case("drop_codes", "100 owned codes of several uses, one with {size} locks")
async def drop_codes(g: LargeShop, size: int) -> Run:
    book = await g.book(max_redemptions_per_code=None)
    codes = [f"CODE-{number:03d}" for number in range(retention.CODES_A_RUN)]
    for number, code in enumerate(codes):
        await g.add(book, code)
        assert (await g.assign(code, USER))[0] == 201
        await g.locks(code, book.book, size if number == 0 else 1)
    args = (book.book, *(part for code in codes for part in (code, key_names.bucket(code))))
    return Run("drop_codes", (g.caller.gate, f"{g.w}w"), args)


@case("drop_uses", "200 redemptions of one order")
async def drop_uses(g: LargeShop, size: int) -> Run:
    events = [f"{EPOCH}-{number}" for number in range(retention.USES_A_RUN)]
    order, bucket = "A-1", key_names.bucket("A-1")
    await g.hash(f"{g.w}o:{bucket}", [(order, " ".join(events))])
    words: list[Any] = []
    for number, event in enumerate(events):
        words += (event, f"u-{number}", key_names.bucket(f"u-{number}"), order, bucket)
    return Run("drop_uses", (g.caller.gate, f"{g.w}w"), (1, *words))


@case("drop_gifts", "200 orders")
async def drop_gifts(g: LargeShop, size: int) -> Run:
    orders = [f"A-{number}" for number in range(retention.ORDERS_A_RUN)]
    for order in orders:
        await g.hash(f"{g.w}g:{key_names.bucket(order)}", [(order, "GONE-1 7 ann 0")])
    args = [part for order in orders for part in (order, key_names.bucket(order))]
    return Run("drop_gifts", (g.caller.gate, f"{g.w}w"), args)


@case("drop_book", "a pool and sets of {size} codes")
async def drop_book(g: LargeShop, size: int) -> Run:
    await g.hash(f"{g.w}f:1", ((str(n), "1") for n in range(size)))
    for kind in "xuapo":
        await g.zset(f"{g.w}l:1:{kind}", ((0, f"7 CODE-{n}") for n in range(size)))
    return Run("drop_book", (g.caller.gate, f"{g.w}w"), (1,))


@case("read_prefixes", "200 strings, one of 0.9 MB")
async def heads(g: LargeShop, size: int) -> Run:
    names = [f"{g.w}i:key-{number}" for number in range(KEYS_A_RUN)]
    await g.link.call("MSET", *(part for name in names for part in (name, "x" * SMALL_BYTES)))
    await g.link.call("SET", names[0], "x" * 9 * size)
    return Run("read_prefixes", (g.caller.gate,), (SMALL_BYTES, *names))


@case("block_codes", "200 owned coupons with locks, one with {size}")
async def block_codes(g: LargeShop, size: int) -> Run:
    book = await g.book(max_redemptions_per_code=None)
    args = list[Any]()
    for number in range(CODES_A_RUN):
        code = f"CODE-{number:03d}"
        await g.add(book, code, owner_id=USER)
        await g.locks(code, book.book, size if number == 0 else 1, user=USER)
        await g.link.call("ZADD", f"{g.w}l:{book.book}:o", 1, f"{key_names.bucket(code)} {code}")
        args += [1, key_names.bucket(code), code]
    return Run("block_codes", (g.caller.gate,), ("", *args))


@case("fence", "one")
async def fence(g: LargeShop, size: int) -> Run:
    return Run("fence", (g.caller.gate, g.caller.outbox), (EPOCH + 1,))


@case("set_gate", "one")
async def set_gate(g: LargeShop, size: int) -> Run:
    return Run("set_gate", (g.caller.gate,), (f"{EPOCH} open", f"{EPOCH} full"))


@case("count_request", "one, under limits")
async def count(g: LargeShop, size: int) -> Run:
    """Within lua/includes/limits.lua, whose commands add to its own."""
    return Run(
        "count_request+", (g.caller.gate, f"{g.w}w", f"{g.w}q:r:1", f"{g.w}q:m:1", f"{g.w}q:a:1"), ("9 9 9 - 1 1",)
    )
