"""A shop's configuration, as Postgres would have it projected: the workspace, its books, codes and users' caps."""

from decimal import Decimal
from typing import Any, Self
from uuid import uuid4

import msgspec

from service.engine.domain.budgets import BudgetRow, UseLimit, names_users
from service.engine.domain.configuration import BookRow, CodeRow, DiscountRow, UserRow, WorkspaceRow
from service.engine.domain.limits import BookLimits, WorkspaceLimits
from service.engine.formats import key_names
from service.engine.hot.scripts import PROJECTION, SERVING, Scripts
from service.server.requests.book_requests import CreateBook, create_book_row
from tests.harness.script_runner import EPOCH, ScriptRunner


class Stocked(ScriptRunner):
    """What a merchant does."""

    def _new_row(self) -> dict[str, Any]:
        """The fields that every row has."""
        return {"workspace": self.workspace, "partition": 0, "version": self.next_version()}

    async def open(self, epoch: int = EPOCH, **settings: Any) -> Self:
        """Load the scripts, open the gate, project the workspace."""
        scripts = Scripts(0, epoch, self.nonce, [*SERVING, *PROJECTION])
        for text in scripts.texts.values():
            await self.link.call("SCRIPT", "LOAD", text)
        await self.link.call("XADD", key_names.outbox(0), f"{epoch}-0", "e", "O")
        await self.link.call("SET", key_names.gate(0), f"{epoch} open")
        self.decider.learn(0, epoch, self.nonce)
        await self.put_workspace(**settings)
        return self

    async def put_workspace(self, **settings: Any) -> None:
        """Project the workspace's settings."""
        if (limits := settings.get("limits")) is not None:
            settings["limits"] = msgspec.convert(limits, WorkspaceLimits)
        usual: dict[str, Any] = {"currency": "USD", "digits": 2, "coupons_per_order": 1, "idempotency_hours": 24}
        usual |= {"workspace_id": self.caller.workspace_id, "name": "shop", "mode": "live"}
        usual |= dict.fromkeys(("max_coupons", "gift_book_id"))
        await self.projector.workspace(WorkspaceRow(**self._new_row() | usual | settings))
        if self.offset_ms:
            await self.set_offset(self.offset_ms)

    async def book(self, *codes: str, **rules: Any) -> BookRow:
        discount = rules.pop("discount", None)
        if (limits := rules.get("limits")) is not None:
            rules["limits"] = msgspec.convert(limits, BookLimits)
        if discount:
            terms: dict[str, Any] = {
                "max_amount_e4": None,
                "min_order_value_e4": None,
                "currency": "USD",
                "digits": 2,
            }
            discount = DiscountRow(**terms | discount)
        ids: dict[str, Any] = {"book": len(self.books) + 1, "book_id": uuid4()}
        usual = create_book_row(CreateBook(name="book"), **self._new_row(), **ids, workspace_currency="USD", now_ms=0)
        row = _with_bounds(msgspec.structs.replace(usual, discount=discount, **_bounds(rules)))
        self.books.append(row)
        await self.projector.book(row)
        await self.add(row, *codes)
        return row

    async def change(self, row: BookRow, **rules: Any) -> BookRow:
        self.limits_changed |= any(
            name.startswith("max_redemptions") or name in ("budgets", "use_limits", "time_zone") for name in rules
        )
        version = self.next_version()
        if rules.pop("end_locks", False):
            rules["locks_ended"] = version
        row = _with_bounds(msgspec.structs.replace(row, version=version, **_bounds(rules)), row)
        await self.projector.book(row)
        return row

    async def add(self, book: BookRow, *codes: str, **says: Any) -> None:
        """New codes of a book, or their switch and expiry."""
        if not codes:
            return
        version = self.next_version()
        rows = [self.code_row(book, code, version, **says) for code in codes]
        await self.projector.codes(self.workspace, 0, version, rows)

    def code_row(self, book: BookRow, code: str, version: int, **says: Any) -> CodeRow:
        own: dict[str, Any] = {"owner_id": None, "max_redemptions": None, "expires_ms": None, "active": True}
        own |= {"amount_e4": book.card.value_e4 if book.card else None} | says
        own |= {"workspace": self.workspace, "partition": 0, "book": book.book, "version": version}
        return CodeRow(code=code, created_ms=1_700_000_000_000, **own)

    async def user(self, user_id: str, max_coupons: int | None) -> None:
        """A user's cap."""
        row = UserRow(**self._new_row(), user_id=user_id, max_coupons=max_coupons, metadata={}, created_ms=0)
        await self.projector.user(row)


def _bounds(rules: dict[str, Any]) -> dict[str, Any]:
    """The rules with rows of `budgets` and `use_limits`, which tests give as (amount or uses, per, period)."""
    made: dict[str, Any] = {}
    if "budgets" in rules:
        made["budgets"] = tuple(BudgetRow(int(Decimal(most) * 10_000), *of) for most, *of in rules["budgets"])
    if "use_limits" in rules:
        made["use_limits"] = tuple(UseLimit(*bound) for bound in rules["use_limits"])
    return rules | made


def _with_bounds(row: BookRow, before: BookRow | None = None) -> BookRow:
    """The row with a new generation where what it bounds was not counted so far, as book_requests.py and
    workspace_rows.py make it."""
    if not row.bounds:
        return msgspec.structs.replace(row, counted_from=0, is_counted=True)
    is_same = before and before.bounds and before.time_zone == row.time_zone
    if before and is_same and names_users(before.bounds) >= names_users(row.bounds):
        return row
    return msgspec.structs.replace(row, counted_from=row.version, is_counted=before is None)
