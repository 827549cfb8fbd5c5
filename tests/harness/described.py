"""Descriptions of routes, which the suites for all routes read.

Each hot operation is described in its own file of tests/lua, the others in tests/harness/routes/table.py.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from service.engine.domain.configuration import BookRow
from service.engine.domain.settings import in_json
from service.engine.formats.events import SENT
from service.engine.operations.table import Row
from tests.harness.cases import Case
from tests.harness.kinds import CURRENCY, ID, ITEMS, MONEY, POSITIVE, TOKEN, Kind, number, sent, text
from tests.harness.shop import Shop

Ask = Callable[[], Awaitable[Any]]
Fields = dict[str, Kind]

ORDER: Fields = {
    "orderId": ID,
    "orderValue": MONEY,
    "currency": CURRENCY,
    "lockToken": TOKEN,
    **in_json({name: sent(field) for name, field in SENT.items()}),
    "items": ITEMS,
    "amount": POSITIVE,
}
PRICE: Fields = {"orderValue": MONEY, "currency": CURRENCY, "items": ITEMS, "amount": POSITIVE}
ITEM = {"sku": "a", "quantity": 1, "unitPrice": "1.00"}
LINE: Fields = {"items.0.sku": text(1, 255), "items.0.quantity": number(1_000_000), "items.0.unitPrice": MONEY}


@dataclass(frozen=True)
class Good:
    """A body whose fields may be as they are, and what each refuses."""

    body: dict[str, Any]
    fields: Fields = field(default_factory=dict)
    required: str = ""
    never_null: str = ""
    """Fields that may be left out, but not be null."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """An operation, for the suites that test all of them. `{book}` and the like are names of routes/place.py."""

    name: str
    """In the OpenAPI document."""
    scopes: str
    """A key needs one of these; `user` is for users' tokens."""
    path: str = ""
    """An address that works; by default the route's."""
    body: dict[str, Any] | None = None
    """A body that works; by default the first good one."""
    another: str = ""
    """The refusal of another workspace's key with the scope; '' for an answer about that workspace."""
    other: int = 403
    """The status for another user's token; 200 if its answer is the same for all users."""
    goods: tuple[Good, ...] = ()
    """Bodies in which tests/integration/requests/test_bad_requests.py puts bad values."""
    refusals: tuple[Case, ...] = ()
    """How to reach each refusal that the OpenAPI document lists for it."""
    hot: ClassVar[bool] = False

    @property
    def method(self) -> str:
        return self.name.split(" ")[0]

    @property
    def named(self) -> str:
        """The route's path, with names of a place."""
        return re.sub(r"\{(\w+?)(?:Id)?\}", r"{\1}", self.name.split(" ")[1])

    @property
    def working(self) -> tuple[str, dict[str, Any] | None]:
        """Path and body of a request that works."""
        return self.path or self.named, self.good.body if self.body is None and self.goods else self.body

    @property
    def scope(self) -> str:
        """The first scope, which tests send."""
        return self.scopes.split()[0]

    @property
    def good(self) -> Good:
        """The first good body; a request of tests/harness/routes/table.py has no other."""
        return self.goods[0]


@dataclass(frozen=True, kw_only=True)
class Description(Route):
    """A hot operation."""

    row: Row
    name: str = field(init=False)
    scopes: str = "checkout user"
    another: str = "coupon_not_found"
    hot: ClassVar[bool] = True
    refused: str = ""
    """The states of the gate that refuse it: `full`, `behind`, or both."""
    writes: bool
    """Whether it writes an event."""
    ask: Callable[..., Awaitable[Any]]
    """Send a request that succeeds: to a shop, about a book and its code, with what `before` returned and any `key`."""
    before: Callable[[Shop, BookRow, str], Awaitable[Any]] | None = None
    """What has to happen before it."""
    rules: dict[str, Any] = field(default_factory=dict)
    """Of the book, where not every book will do."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.row.route)

    async def prepare(self, shop: Shop, book: BookRow, code: str, **more: str) -> Ask:
        """The request, after what has to happen before it; the code is the book's only one, and names the order."""
        returned = self.before and await self.before(shop, book, code)
        return lambda: self.ask(shop, book, code, returned, **more)


@cache
def descriptions() -> tuple[Description, ...]:
    """All hot operations, in the order of their files."""
    found: list[Description] = []
    for path in sorted(Path(__file__).parents[1].glob("lua/test_*.py")):
        if "\nDESCRIBED = " in path.read_text():
            found += import_module(f"tests.lua.{path.stem}").DESCRIBED
    return tuple(found)
