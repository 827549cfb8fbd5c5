"""A shop with a bit of everything in it, and ways in which its Redis can come to differ from the record."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from service.domain import keys
from service.domain.drift import Class, Difference
from service.reconcile.run import Outcome, reconcile
from service.record import reconciling as record
from service.record.workspaces import workspace_named
from tests.service_fixture import Service, new_code, new_id, ok, until


@dataclass
class Shop:
    """Codes, users and orders of a workspace, by what they are there for."""

    service: Service
    workspace: int
    name: dict[str, str] = field(default_factory=dict)
    number: dict[str, int] = field(default_factory=dict)
    """Books' numbers within the workspace."""

    def key(self, rest: str) -> str:
        """A key of the workspace's."""
        return keys.prefix(0, self.workspace) + rest

    def bucket(self, kind: str, name: str) -> str:
        """The bucket of a code, an order or a user."""
        return self.key(f"{kind}:{keys.bucket(self.name[name])}")

    def code(self, name: str) -> str:
        """The directory's bucket of a code."""
        return self.bucket("d", name)


async def compared(service: Service, *, repair: bool = False) -> tuple[Outcome, list[tuple[Difference, str]]]:
    """What a comparison of all of a service says."""
    facts, told = service.run.facts, []
    pool = await record.connect(facts["databaseUrl"])
    try:
        outcome = await reconcile(
            facts["redisUrl"], pool, 0, repair=repair, tell=lambda found, state: told.append((found, state))
        )
        return outcome, told
    finally:
        await pool.close()


def compare(service: Service, *, repair: bool = False) -> tuple[Outcome, list[tuple[Difference, str]]]:
    """As compared, where there is no loop."""
    return asyncio.run(compared(service, repair=repair))


def open_shop(service: Service) -> Shop:
    """Books for one use, for three, for gifts and with an end; of each some codes used, assigned, rolled back."""
    shop = Shop(service, asyncio.run(_workspace(service)))
    name = shop.name
    books: tuple[tuple[str, int, dict[str, Any]], ...] = (
        ("single", 12, {}),
        ("several", 4, {"maxRedemptionsPerCode": 3}),
        ("gifts", 4, {}),
        ("other", 2, {}),
    )
    for kind, codes, said in books:
        made = [new_code() for _ in range(codes)]
        name[kind] = service.book(*made, **said)
        name |= {f"{kind}{place}": code for place, code in enumerate(made)}
    name |= {who: new_id() for who in ("ann", "bob", "cem", "capped")}
    name |= {order: new_id("order") for order in ("order1", "order2", "order3", "order4", "given")}
    _use(service, name)
    ok(service.manage.post("/v1/users", json={"userId": name["capped"], "maxCoupons": 3}), 201)
    ending = {"expiresAt": "2036-01-01T00:00:00Z"}
    ok(service.manage.patch(f"/v1/coupons/{name['single7']}", json=ending))
    ok(service.manage.patch(f"/v1/coupons/{name['single8']}", json={"status": "inactive"}))
    until(lambda: ok(service.operate.get("/v1/ops/consistency"))["lagEvents"] == 0)
    with service.redis() as redis:
        found: Any = redis.hgetall(shop.key("x"))
        shop.number |= {kind: int(found[name[kind]]) for kind in ("single", "several", "gifts", "other")}
    return shop


def _use(service: Service, name: dict[str, str]) -> None:
    checkout, manage = service.checkout, service.manage

    def redeem(code: str, user: str, order: str, **more: Any) -> Any:
        said = {"userId": name[user], "orderId": name[order], "orderValue": 20} | more
        headers = {"Idempotency-Key": name[f"{code}-{user}"]}
        return ok(checkout.post(f"/v1/coupons/redeem/{name[code]}", json=said, headers=headers), 201)

    for code, user in (("single0", "ann"), ("single1", "bob"), ("several0", "ann"), ("several0", "bob")):
        name[f"{code}-{user}"] = new_id("key")
    redeem("single0", "ann", "order1")
    again = redeem("single1", "bob", "order2")
    ok(manage.post(f"/v1/redemptions/{again['redemptionId']}/rollback", json={"restore": False}))
    redeem("several0", "ann", "order3")
    redeem("several0", "bob", "order4")
    for code, user in (("single2", "ann"), ("single3", "cem"), ("single4", "cem"), ("several1", "cem")):
        ok(checkout.post(f"/v1/coupons/assign/{name[code]}", json={"userId": name[user]}), 201)
    ok(manage.post(f"/v1/coupons/unassign/{name['single4']}", json={}))
    asked = {"bookId": name["gifts"], "orderId": name["given"]}
    gift = ok(checkout.post(f"/v1/users/{name['ann']}/gifts", json=asked), 201)
    name["gift"] = gift["code"]


async def _workspace(service: Service) -> int:
    pool = await record.connect(service.run.facts["databaseUrl"])
    try:
        found = await workspace_named(pool, "demo")
        assert found is not None
        return found
    finally:
        await pool.close()


Drift = tuple[set[Class], Callable[[Any, Shop], Any]]


def _words(redis: Any, shop: Shop, name: str, place: int, word: str) -> None:
    """Another word in a coupon's record."""
    key = shop.key(f"c:{shop.name[name]}")
    words = redis.get(key).split(" ")
    words[place] = word
    redis.set(key, " ".join(words))


def _setting(redis: Any, shop: Shop) -> None:
    key = shop.key(f"b:{shop.number['other']}")
    redis.set(key, redis.get(key).replace(" 300000 ", " 299000 "))


DRIFTS: dict[str, Drift] = {
    "a code is gone": ({"code_missing"}, lambda r, s: r.hdel(s.code("single9"), s.name["single9"])),
    "a used code is gone": ({"code_missing"}, lambda r, s: r.hdel(s.code("single0"), s.name["single0"])),
    "a code too much": ({"code_surplus"}, lambda r, s: r.hset(s.key(f"d:{keys.bucket('NOBODYS')}"), "NOBODYS", "1")),
    "a code of another book": (
        {"book"},
        lambda r, s: r.hset(s.code("single10"), s.name["single10"], s.number["other"]),
    ),
    "a use forgotten": (
        {"uses", "redemptions", "free_surplus"},
        lambda r, s: r.hset(s.code("single0"), s.name["single0"], s.number["single"]),
    ),
    "a use of several forgotten": ({"uses"}, lambda r, s: _words(r, s, "several0", 3, "1")),
    "another's coupon": ({"assignee"}, lambda r, s: _words(r, s, "single2", 1, "mallory")),
    "switched on": ({"state"}, lambda r, s: _words(r, s, "single8", 5, "-")),
    "another end": ({"state"}, lambda r, s: _words(r, s, "single7", 6, "4102444800000")),
    "a standing redemption gone": (
        {"redemptions"},
        lambda r, s: r.zremrangebyrank(s.key(f"s:{s.name['several0']}"), 0, 0),
    ),
    "a user used more": (
        {"user_counts"},
        lambda r, s: r.hset(s.bucket("o", "ann"), f"{s.number['single']}/{s.name['ann']}", "7"),
    ),
    "a user has more": (
        {"user_counts"},
        lambda r, s: r.hincrby(s.key(f"u:{s.name['cem']}"), f"a{s.number['single']}", 2),
    ),
    "a stranger has something": ({"user_counts"}, lambda r, s: r.hset(s.key("u:nobody"), "a1", "3")),
    "another cap": ({"user_cap"}, lambda r, s: r.hset(s.key(f"u:{s.name['capped']}"), "cap", "1 9")),
    "a book counts more": ({"book_counts"}, lambda r, s: r.hincrby(s.key(f"n:{s.number['single']}"), "redeemed", 3)),
    "a book's users": ({"book_counts"}, lambda r, s: r.hincrby(s.key(f"n:{s.number['several']}"), "users", -1)),
    "an order gone": ({"orders"}, lambda r, s: r.hdel(s.bucket("o", "order1"), s.name["order1"])),
    "an order too much": ({"orders"}, lambda r, s: r.hset(s.key(f"o:{keys.bucket('strange')}"), "strange", "1-7")),
    "a gift gone": ({"gifts"}, lambda r, s: r.hdel(s.bucket("g", "given"), s.name["given"])),
    "not offered": (
        {"free_missing"},
        lambda r, s: r.hset(s.code("single11"), s.name["single11"], f"{s.number['single']}!"),
    ),
    "a bucket not offered": (
        {"free_missing"},
        lambda r, s: r.srem(s.key(f"f:{s.number['other']}"), keys.bucket(s.name["other1"])),
    ),
    "a bucket offered in vain": (
        {"free_surplus"},
        lambda r, s: r.sadd(s.key(f"f:{s.number['several']}"), keys.bucket("NOBODYS")),
    ),
    "never to end": (
        {"free_missing"},
        lambda r, s: r.zrem(
            s.key(f"l:{s.number['single']}:x"), f"{keys.bucket(s.name['single7'])} {s.name['single7']}"
        ),
    ),
    "a key forgotten": ({"idempotency_keys"}, lambda r, s: r.delete(s.key(f"i:{s.name['single0-ann']}"))),
    "another setting": ({"configuration"}, _setting),
}
"""By name: the classes, and what makes it so, in Redis."""
