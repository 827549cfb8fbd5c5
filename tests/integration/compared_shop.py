"""A shop with every kind of data, for comparisons."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from service.formats import key_names
from tests.drifts.comparing import demo_workspace
from tests.service_fixture import Service, new_code, new_id, ok


@dataclass
class Shop:
    """Codes, users and orders of a workspace, by their purpose."""

    service: Service
    workspace: int
    name: dict[str, str] = field(default_factory=dict)
    number: dict[str, int] = field(default_factory=dict)
    """Books' numbers within the workspace."""

    def key(self, rest: str) -> str:
        """Return the name of a key of the workspace."""
        return key_names.prefix(0, self.workspace) + rest


def open_shop(service: Service) -> Shop:
    """Books for one use, for three, for gifts and with an end; of each some codes used, assigned, rolled back."""
    shop = Shop(service, asyncio.run(demo_workspace(service)))
    name = shop.name
    books: tuple[tuple[str, int, dict[str, Any]], ...] = (
        ("single", 12, {}),
        ("several", 4, {"maxRedemptionsPerCode": 3}),
        ("gifts", 4, {}),
        ("other", 2, {}),
    )
    for kind, codes, fields in books:
        made = [new_code() for _ in range(codes)]
        name[kind] = service.book(*made, **fields)
        name |= {f"{kind}{place}": code for place, code in enumerate(made)}
    name |= {user: new_id() for user in ("ann", "bob", "cem", "capped")}
    name |= {order: new_id("order") for order in ("order1", "order2", "order3", "order4", "given")}
    _use(service, name)
    ok(service.manage.post("/v1/users", json={"userId": name["capped"], "maxCoupons": 3}), 201)
    ending = {"expiresAt": "2036-01-01T00:00:00Z"}
    ok(service.manage.patch(f"/v1/coupons/{name['single7']}", json=ending))
    ok(service.manage.patch(f"/v1/coupons/{name['single8']}", json={"status": "inactive"}))
    service.recorded()
    with service.redis() as redis:
        numbers: Any = redis.hgetall(shop.key("x"))
        shop.number |= {kind: int(numbers[name[kind]]) for kind in ("single", "several", "gifts", "other")}
    return shop


def _use(service: Service, name: dict[str, str]) -> None:
    checkout, manage = service.checkout, service.manage

    def redeem(code: str, user: str, order: str, **more: Any) -> Any:
        body = {"userId": name[user], "orderId": name[order], "orderValue": 20} | more
        headers = {"Idempotency-Key": name[f"{code}-{user}"]}
        return ok(checkout.post(f"/v1/coupons/redeem/{name[code]}", json=body, headers=headers), 201)

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
