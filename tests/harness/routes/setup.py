"""What the requests to all routes, and their refusals, need in a workspace; and how to send them."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import httpx
from uuid_utils.compat import uuid7

from tests.harness.cases import BOOKS, PAST, WorkspaceSetup, filled
from tests.harness.described import Route
from tests.harness.routes.table import LISTENS
from tests.harness.service_fixture import Service, new_code, new_id, ok


def make_setup(service: Service, rival: Service | None = None) -> WorkspaceSetup:
    """Make books of all kinds, what was done with their codes by the users ann and bob, objects of configuration, and a
    book of another workspace."""
    setup = {name: new_id() for name in ("ann", "bob", "full", "zed")}
    setup |= {name: new_id("order") for name in ("taken", "undone", "given", "new", "order", "order2", "order3")}
    setup |= {"used_order": new_id("order"), "rivals": (rival or service).book(), "own": service.workspace}
    _make_books(service, setup)
    _make_objects(service, setup)
    _use(service, setup)
    _lock(service, setup)
    aliases = {"book": "free_book", "code": "free7", "user": "ann"}
    return setup | {name: setup[of] for name, of in aliases.items()} | {"event": "1-1"}


def _make_books(service: Service, setup: WorkspaceSetup) -> None:
    for name, (codes, fields) in BOOKS.items():
        made = [new_code() for _ in range(codes)]
        setup[f"{name}_book"] = service.book(*made, **fields)
        setup |= {f"{name}{number or ''}": code for number, code in enumerate(made)}
    ok(service.manage.patch(f"/v1/coupons/{setup['off']}", json={"status": "inactive"}))
    ok(service.manage.patch(f"/v1/coupons/{setup['ended']}", json={"expiresAt": PAST}))
    setup["cursor"] = ok(service.manage.get("/v1/books?limit=1"))["nextCursor"]


def _make_objects(service: Service, setup: WorkspaceSetup) -> None:
    """Users, API keys, webhooks with a delivery, and paused jobs."""
    setup["used_key"] = new_id("key")
    for name, fields, headers in (
        ("full", {"maxCoupons": 1}, {}),
        ("zed", {}, {}),
        ("ann", {"metadata": {"note": "anns"}}, {"Idempotency-Key": setup["used_key"]}),
    ):
        ok(service.manage.post("/v1/users", json={"userId": setup[name]} | fields, headers=headers), 201)
    for number in ("", "2"):
        setup[f"job{number}"] = make_paused_change(service, setup["free_book"])
        key = service.operate.post("/v1/keys", json={"name": f"key{number}", "scopes": ["public"]})
        setup[f"key{number}"] = ok(key, 201)["keyId"]
        hook = setup[f"webhook{number}"] = ok(service.operate.post("/v1/webhooks", json=LISTENS), 201)["webhookId"]
        ok(service.operate.patch(f"/v1/webhooks/{hook}", json={"status": "inactive"}))  # or failures would change it
    setup["delivery"] = ok(service.operate.post(f"/v1/webhooks/{setup['webhook']}/test", json={}), 202)["deliveryId"]


def _use(service: Service, setup: WorkspaceSetup) -> None:
    ann, bob = setup["ann"], setup["bob"]

    def redeem(name: str, user: str, order: str | None = None) -> str:
        body = {"userId": user, "orderId": order}
        return ok(service.checkout.post(f"/v1/coupons/redeem/{setup[name]}", json=body), 201)["redemptionId"]

    for name, user in (("bobs", bob), ("one1", ann), ("many1", setup["full"]), ("owned_held", ann),
                       ("owned_used", ann), ("owned_spent", ann), ("assigned", ann)):  # fmt: skip
        ok(service.checkout.post(f"/v1/coupons/assign/{setup[name]}", json={"userId": user}), 201)
    redeem("used", ann, setup["taken"])
    for name, user in (("spent", bob), ("spent", bob), ("capped1", ann), ("sold1", bob), ("busy1", bob),
                       ("owned_used", ann), ("owned_spent", ann), ("owned_spent", ann)):  # fmt: skip
        redeem(name, user)
    setup["rolled"] = redeem("undone_code", ann, setup["undone"])
    ok(service.manage.post(f"/v1/orders/{setup['undone']}/rollback", json={}))
    redeem("free8", ann, setup["used_order"])
    setup["redemption"] = redeem("standing", ann)
    gift = {"bookId": setup["gifts_book"], "orderId": setup["given"]}
    ok(service.checkout.post(f"/v1/users/{ann}/gifts", json=gift), 201)


def _lock(service: Service, setup: WorkspaceSetup) -> None:
    for name, user in (("held", "bob"), ("ceiling", "ann"), ("held_off", "ann"), ("held_dark", "ann"),
                       ("owned_held", "ann"), ("locked", "ann"), ("card1", "ann")):  # fmt: skip
        body = {"userId": setup[user]} | ({} if name == "ceiling" else {"lockSeconds": 1800})
        body |= {"orderValue": 20} if name == "card1" else {}
        made = service.checkout.post(f"/v1/coupons/lock/{setup[name]}", json=body)
        setup[f"{name}_token"] = ok(made, 201)["lockToken"]
    ok(service.manage.patch(f"/v1/coupons/{setup['held_off']}", json={"status": "inactive"}))
    ok(service.manage.patch(f"/v1/books/{setup['held_dark_book']}", json={"status": "inactive"}))


def send(
    service: Service,
    asked: Route,
    setup: WorkspaceSetup,
    content: bytes | Iterable[bytes],
    query: str = "",
    **headers: str,
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    client: httpx.Client = getattr(service, asked.scope)
    path = filled(asked.named, setup) + query
    return client.request(asked.method, path, content=content, headers={"Content-Type": "application/json"} | named)


@contextmanager
def unchanged(service: Service) -> Iterator[None]:
    """Check that all that both stores hold of its workspace is as before."""
    before = service.held()
    yield
    assert service.held() == before


PAUSED_CHANGE = """
INSERT INTO jobs (job_id, workspace, kind, book, parameters, status, requested, before)
SELECT $2, workspace, 'change', book, '{"action": "switchOff", "filter": {"codes": ["NONE"]}}', 'paused', 1, 1
FROM books WHERE book_id = $1"""


def make_paused_change(service: Service, book: str) -> str:
    """A job that changes codes of a book, and is paused."""
    job = str(uuid7())
    asyncio.run(service.fetch(PAUSED_CHANGE, book, job))
    return job


QUARANTINED = """
INSERT INTO quarantine (partition, epoch, seq, cause, reason, d, r) VALUES ($1, 1, $2, 'unrecorded', '', $3, '{}')
ON CONFLICT DO NOTHING"""


def make_quarantined(service: Service) -> str:
    """An event in quarantine of which too little is known to record it, so that it stays; return its id."""
    decided = f"R {service.number} 1 {new_code()}".encode()
    asyncio.run(service.fetch(QUARANTINED, service.partition, service.number, decided))
    return f"1-{service.number}"
