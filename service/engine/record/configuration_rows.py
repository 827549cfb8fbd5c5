"""Rows of configuration, made from records of Postgres: what changes.py projects, and server/record/ changes."""

from typing import Any

import msgspec
from asyncpg import Record

from service.engine.domain import discounts
from service.engine.domain.budgets import BudgetRow, UseLimit
from service.engine.domain.configuration import BookRow, CodeRow, DiscountRow, UserRow, WorkspaceRow
from service.engine.domain.limits import BookLimits, KeyLimits, WorkspaceLimits
from service.engine.domain.money import CURRENCY_DIGITS, E4
from service.engine.domain.times import to_ms
from service.engine.record.stored_json import limits_from

_MORE = ("code", "code_count", "clock_offset_ms")
"""Columns that a query of books selects as well."""


def workspace_row(record: Record) -> WorkspaceRow:
    fields: dict[str, Any] = dict(record)
    fields["limits"] = limits_from(record["limits"], WorkspaceLimits)
    fields["operator_limits"] = limits_from(record["operator_limits"], KeyLimits)
    return WorkspaceRow(**fields, digits=CURRENCY_DIGITS[record["currency"]])


def book_row(record: Record) -> BookRow:
    """The row of a record that is joined with its workspace."""
    fields: dict[str, Any] = dict(record)
    for name in ("valid_from", "valid_until"):
        at = fields.pop(name)
        fields[f"{name}_ms"] = None if at is None else to_ms(at)
    for name in ("created", "updated"):
        fields[f"{name}_ms"] = to_ms(fields.pop(f"{name}_at"))
    for name in _MORE:
        fields.pop(name, None)
    fields["discount"] = _discount_of(fields["discount"])
    fields["metadata"] = msgspec.json.decode(fields["metadata"])
    fields["limits"] = limits_from(fields["limits"], BookLimits)
    fields["budgets"] = msgspec.json.decode(fields["budgets"], type=tuple[BudgetRow, ...])
    fields["use_limits"] = msgspec.json.decode(fields["use_limits"], type=tuple[UseLimit, ...])
    return BookRow(**fields)


def card_of(stored: str | None) -> DiscountRow | None:
    """The discount of a column of books, if its codes are cards with a balance."""
    discount = _discount_of(stored)
    return discount if discount and discount.type == "balance" else None


def _discount_of(stored: str | None) -> DiscountRow | None:
    return None if stored is None else discounts.decode_discount(msgspec.json.decode(stored))


def user_row(record: Record) -> UserRow:
    fields: dict[str, Any] = dict(record)
    fields.pop("position", None)
    fields |= {"metadata": msgspec.json.decode(fields["metadata"]), "created_ms": to_ms(fields.pop("created_at"))}
    return UserRow(**fields)


def code_row(record: Record) -> CodeRow:
    expires_at, amount = record["expires_at"], record["amount"]
    return CodeRow(
        workspace=record["workspace"],
        partition=record["partition"],
        book=record["book"],
        version=record["version"],
        code=record["code"],
        owner_id=record["owner_id"],
        max_redemptions=record["max_redemptions"],
        expires_ms=None if expires_at is None else to_ms(expires_at),
        active=record["active"],
        created_ms=to_ms(record["created_at"]),
        amount_e4=None if amount is None else int(amount * E4),
    )
