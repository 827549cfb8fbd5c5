"""Budgets of a book's discounts and limits of its uses, in requests, in rows and in responses.

Postgres keeps both as JSON with the names of BudgetRow and UseLimit. Redis has them in a book's settings
(service/engine/formats/bounds.py)."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from service.engine.domain.errors import BadField, invalid
from service.engine.domain.field_types import Answer, Count, Request
from service.engine.domain.money import Amount, PositiveMoney, from_e4, to_e4
from service.engine.domain.times import Timestamp, from_ms

MAX_BOUNDS = 4
Per = Literal["book", "user"]
Period = Literal["lifetime", "day", "month"]
PERIODS: dict[str, Period] = {"l": "lifetime", "d": "day", "m": "month"}
"""By their letters in Redis."""


class Budget(Request):
    """The most that the discounts of a book, or of one user in it, may come to in a period."""

    amount: PositiveMoney
    per: Per
    period: Annotated[Period, msgspec.Meta(description="Days and months of the workspace's `timeZone`.")]


class UseLimit(Request, frozen=True):
    """How often a book, or one user in it, may be redeemed in a period."""

    uses: Count
    per: Per
    period: Annotated[
        Literal["day", "month"], msgspec.Meta(description="Days and months of the workspace's `timeZone`.")
    ]


class BudgetRow(msgspec.Struct, frozen=True):
    """A budget, in 10⁻⁴ units."""

    amount_e4: int
    per: Per
    period: Period


class BookBudget(Answer):
    """A budget. The amount has the digits of the book's currency."""

    amount: Amount
    per: Per
    period: Period


class BudgetNow(BookBudget):
    """A budget of the whole book, and what is spent of it in the period of now."""

    spent: Amount
    held: Annotated[Amount, msgspec.Meta(description="What live locks hold.")]
    left: Amount
    renews_at: Timestamp | None


Bound = BudgetRow | UseLimit
Budgets = Annotated[list[Budget], msgspec.Meta(max_length=MAX_BOUNDS, description="They replace all earlier ones.")]
UseLimits = Annotated[list[UseLimit], msgspec.Meta(max_length=MAX_BOUNDS, description="They replace all earlier ones.")]


def make_budget_rows(budgets: Sequence[Budget]) -> tuple[BudgetRow, ...]:
    """The budgets with integer amounts. Raises BadField for an amount out of range."""
    rows: list[BudgetRow] = []
    for number, budget in enumerate(budgets):
        field = f"budgets[{number}].amount"
        amount_e4 = to_e4(field, budget.amount)
        if amount_e4 == 0:
            raise BadField(field, "must be more than 0")
        rows.append(BudgetRow(amount_e4, budget.per, budget.period))
    return tuple(rows)


def check_budget_digits(budgets: Sequence[BudgetRow], currency: str, digits: int) -> None:
    """Raise Refusal `invalid` if an amount has more digits after the point than the currency."""
    for number, budget in enumerate(budgets):
        if budget.amount_e4 % 10 ** (4 - digits):
            most = f"at most {digits} digits after the point, as {currency} has"
            amount = from_e4(budget.amount_e4, 4).rstrip("0")
            raise invalid(f"budgets[{number}].amount", f"must have {most}, but is {amount}")


def render_budgets(budgets: Sequence[BudgetRow], digits: int) -> list[BookBudget]:
    return [BookBudget(from_e4(budget.amount_e4, digits), budget.per, budget.period) for budget in budgets]


def names_users(bounds: Sequence[Bound]) -> bool:
    """Whether one of them is of each user."""
    return any(bound.per == "user" for bound in bounds)


def render_budget_now(line: str, digits: int) -> BudgetNow:
    """A budget of a reply of book_stats."""
    letter, *amounts, renews = line.split(" ")
    most, spent, held = map(int, amounts)
    left = max(most - spent - held, 0)
    return BudgetNow(
        from_e4(most, digits),
        "book",
        PERIODS[letter],
        from_e4(spent, digits),
        from_e4(held, digits),
        from_e4(left, digits),
        None if renews == "-" else from_ms(int(renews)),
    )
