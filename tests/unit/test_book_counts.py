"""What a reply of book_stats says."""

from typing import Any

import pytest

from service.server.in_redis.workspace_state import counts_of

_COUNTS = ["", "2", "0", 0, 0, "1", "0", "0", "1", "0", "20000", "0", "1", "1", "1", 1790000000000, "USD"]
_BUDGET = "l 1000000 200000 0 -"


@pytest.mark.parametrize("more", [["-"], ["-", _BUDGET]], ids=["no budget", "a budget"])
def test_without_cards(more: list[Any]) -> None:
    """A book's counts and budgets."""
    counts = counts_of([*_COUNTS, *more])
    assert (counts.codes, counts.available, counts.redemptions, counts.discount_total) == (2, 1, 1, "2.00")
    assert counts.balance is None
    assert [budget.spent for budget in counts.budgets] == ["20.00"] * len(more[1:])


def test_cards() -> None:
    """The sums of a book's cards: what is available is what no lock holds."""
    balance = counts_of([*_COUNTS, "850000 0 50000 0 600000 0 200000 0 30000 0"]).balance
    assert balance is not None
    assert (balance.issued, balance.credited, balance.spent, balance.closed) == ("85.00", "5.00", "60.00", "20.00")
    assert (balance.held, balance.available) == ("3.00", "7.00")
