"""What a drift is, and what it happens to: a book of its own, and what was done with its coupons."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from service.engine.formats import key_names
from service.engine.formats.coupon_state import Class
from service.engine.record.actor import mask
from tests.harness.service_fixture import Service, ok

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
STRANGER = 3
"""The index of a subject's unused name of each kind."""


def _tags() -> Iterator[str]:
    """Names that stay apart when they are masked: a last quarter tells them."""
    for number in count(1):
        a, b, c, d = (_DIGITS[number // 36**place % 36] for place in range(4))
        yield f"DRIFTS-APART-{a}{b}{c}{d}"


class DriftWorkspace:
    """A workspace in which things come to differ; `sold` is the id of a book that is being sold."""

    def __init__(self, service: Service, sold: str = "") -> None:
        self.service, self.tags = service, _tags()
        self.refuge = self.number(service.book())
        """The number of a book to which things are moved."""
        self.sold = self.number(sold) if sold else self.refuge

    def key(self, rest: str) -> str:
        return self.service.prefix + rest

    def number(self, book_id: str) -> int:
        """A book's number within the workspace."""
        with self.service.redis() as redis:
            number: Any = redis.hget(self.key("x"), book_id)
        return int(number)


@dataclass
class Subject:
    """Four names of each kind; of the codes three are in the book; the last name is unused."""

    workspace: DriftWorkspace
    book_id: str
    book: int
    codes: list[str]
    users: list[str]
    orders: list[str]
    keys: list[str]

    def entry(self, code: str) -> str:
        """The directory's bucket of a code."""
        return self.workspace.key(f"d:{key_names.bucket(code)}")

    def uses(self, name: str) -> str:
        """The bucket of an order's places, or of a user's uses."""
        return self.workspace.key(f"o:{key_names.bucket(name)}")

    @property
    def values(self) -> dict[str, Any]:
        """By name: `code0` is the first code, `user1` the second user, and so on; `bucket0` is the first code's bucket,
        `uses0` the first user's, `orders0` the first order's; `workspace`, `book` and `refuge` are numbers; `w` is what
        the workspace's keys begin with."""
        lists: dict[str, Iterable[Any]] = {
            "code": self.codes, "user": self.users, "order": self.orders, "key": self.keys,
            "bucket": map(key_names.bucket, self.codes), "uses": map(key_names.bucket, self.users),
            "orders": map(key_names.bucket, self.orders),
        }  # fmt: skip
        named = {f"{kind}{at}": value for kind, values in lists.items() for at, value in enumerate(values)}
        numbers = {"workspace": self.workspace.service.number, "book": self.book, "refuge": self.workspace.refuge}
        return named | numbers | {"w": self.workspace.key("")}

    def thing(self, name: str) -> str:
        """What a comparison calls it: `code0`, `user1`, `order0`, `key0`; `book`, `refuge`; `bucket0`, a code's in the
        book; `use0`, a user's uses of the book; or a text with names in braces."""
        kind, at = name.rstrip("0123"), name[-1]
        texts = {
            "book": "book {book}",
            "refuge": "book {refuge}",
            "bucket": f"book {{book}}, bucket {{bucket{at}}}",
            "use": f"user {{user{at}}} in book {{book}}",
        }
        text = name if "{" in name else texts.get(kind, f"{kind} {{{name}}}")
        return text.format(
            **{name: mask(value) if isinstance(value, str) else value for name, value in self.values.items()}
        )


Expected = dict[str, str]
"""What a comparison says that differs: by the thing, in the words of Subject.thing, its classes."""


class Kind(NamedTuple):
    """A way in which Redis and the record come to differ: what has been done with a subject, what then is done behind
    the service's back, and what a comparison must say of it, no more and no less."""

    state: str
    named: Expected
    change: str | Callable[[Any, Subject], Any]
    """A statement for Postgres, with Subject.values as `:name`; or what a client of Redis does."""

    def expected(self, subject: Subject) -> dict[str, set[Class]]:
        """The differences of a subject that must be reported, by thing."""
        return {subject.thing(name): set[Any](classes.split()) for name, classes in self.named.items()}


def _redeem(subject: Subject, at: int = 0) -> str:
    body = {"userId": subject.users[at], "orderId": subject.orders[at], "orderValue": 20}
    path, headers = f"/v1/coupons/redeem/{subject.codes[0]}", {"Idempotency-Key": subject.keys[at]}
    return ok(subject.workspace.service.checkout.post(path, json=body, headers=headers), 201)["redemptionId"]


def _roll_back(subject: Subject, *, restore: bool) -> None:
    path = f"/v1/redemptions/{_redeem(subject)}/rollback"
    ok(subject.workspace.service.manage.post(path, json={"restore": restore}))


def _sold(subject: Subject) -> None:
    subject.book = subject.workspace.sold


def _several(subject: Subject) -> None:
    _redeem(subject)
    _redeem(subject, 1)


def _owned(subject: Subject) -> None:
    path = f"/v1/coupons/assign/{subject.codes[0]}"
    ok(subject.workspace.service.checkout.post(path, json={"userId": subject.users[0]}), 201)


def _given(subject: Subject) -> None:
    asked = {"bookId": subject.book_id, "orderId": subject.orders[0]}
    given = ok(subject.workspace.service.checkout.post(f"/v1/users/{subject.users[0]}/gifts", json=asked), 201)
    at = subject.codes.index(given["code"])
    subject.codes[0], subject.codes[at] = subject.codes[at], subject.codes[0]


def _capped(subject: Subject) -> None:
    ok(subject.workspace.service.manage.post("/v1/users", json={"userId": subject.users[0], "maxCoupons": 3}), 201)


def _change(subject: Subject, **body: str) -> None:
    ok(subject.workspace.service.manage.patch(f"/v1/coupons/{subject.codes[0]}", json=body))


def _credited(subject: Subject) -> None:
    checkout = subject.workspace.service.checkout
    held = {"userId": subject.users[0], "orderId": subject.orders[0], "orderValue": 20}
    ok(checkout.post(f"/v1/coupons/lock/{subject.codes[0]}", json=held), 201)
    _redeem(subject)
    path, headers = f"/v1/coupons/{subject.codes[0]}/credit", {"Idempotency-Key": subject.keys[1]}
    ok(subject.workspace.service.manage.post(path, json={"amount": "5.00"}, headers=headers))


_end = partial(_change, expiresAt="2036-01-01T00:00:00Z")


def _owned_ending(subject: Subject) -> None:
    _owned(subject)
    _end(subject)


STATES: dict[str, Callable[[Subject], object]] = {
    "idle": lambda subject: None,
    "used": _redeem,
    "returned": partial(_roll_back, restore=True),
    "withdrawn": partial(_roll_back, restore=False),
    "several": _several,
    "sold": _sold,
    "owned": _owned,
    "given": _given,
    "capped": _capped,
    "ending": _end,
    "owned_ending": _owned_ending,
    "off": partial(_change, status="inactive"),
    "card": _credited,
    "bounded": _redeem,
}
"""What was done: `used`, the first code by the first user in the first order; `returned`, that was rolled back;
`withdrawn`, rolled back for nothing; `several`, used by the second user in the second order, too; `sold`, of a book
that is being sold; `given` for an order; `card`, a card of 50 that was used under a lock, then credited with 5;
`bounded`, used of a book with budgets; …"""


def make(workspace: DriftWorkspace, state: str) -> Subject:
    """One that is in this state."""
    names = [next(workspace.tags) for _ in range(4)]
    rules: dict[str, Any] = {"discount": {"type": "percentage", "value": 10}}
    if state == "several":
        rules["maxRedemptionsPerCode"] = 3
    if state == "card":
        rules["discount"] = {"type": "balance", "value": 50}
    if state == "bounded":
        rules["budgets"] = [
            {"amount": 90, "per": "book", "period": "day"},
            {"amount": 9, "per": "user", "period": "month"},
        ]
    book_id = workspace.service.book(*names[:STRANGER], **rules)
    subject = Subject(workspace, book_id, workspace.number(book_id), names, list(names), list(names), list(names))
    STATES[state](subject)
    return subject


def populated(service: Service) -> DriftWorkspace:
    """A workspace with a bit of everything in it, all of it recorded."""
    workspace = DriftWorkspace(service)
    for state in STATES.keys() - {"sold"}:
        make(workspace, state)
    service.recorded()
    return workspace
