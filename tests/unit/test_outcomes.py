"""The table of outcomes: whose turn each refusal is."""

import re
from collections.abc import Sequence

import pytest

from service.engine.domain.figures import FIGURES, list_figures
from service.engine.domain.outcomes import BY_CODE, list_codes
from service.engine.operations.table import LOCK, ROWS

SHOPPER = re.compile(
    r"coupon_\w+|book_inactive|not_started|expired|out_of_stock|lock_lost|order_already_used|order_value_too_low|"
    r"no_discount|no_matching_items|not_combinable|user_\w+_limit|price_changed|budget_exhausted|period_limit"
)
"""The contract's list of what concerns a coupon, not the program."""
CALLER = re.compile(r"currency_mismatch|storage_full")
"""What a lock refuses of the program; all else that it refuses is of a coupon."""
RETRY = (408, 429, 503)
FIELDS: dict[str, Sequence[str]] = {
    **{
        code: ["1"] * len(list_figures(row.says)) for code, row in BY_CODE.items() if row.says and row.for_ == "shopper"
    },
    "budget_exhausted": ("-",),
    "order_value_too_low": ("20000", "10000", "USD", "2"),
    "no_discount": ("percentage", "100000", "-"),
    "price_changed": ("960000", "950000", "USD", "2"),
}
"""Figures of refusals for the shopper."""


@pytest.mark.parametrize("code", BY_CODE)
def test_each_refusal_says_whose_turn_it_is(code: str) -> None:
    """What a customer can understand is for the shopper, what passes for a retry, all else for the caller."""
    is_retry = BY_CODE[code].status in RETRY or code == "request_in_progress"
    is_of_coupon = SHOPPER.fullmatch(code) or (
        code in list_codes(LOCK.operation_id).split() and not CALLER.fullmatch(code)
    )
    expected = "retry" if is_retry else "shopper" if is_of_coupon else "caller"
    assert BY_CODE[code].for_ == expected


def test_each_operation_that_a_row_names_is_there() -> None:
    """Rows name ids of hot operations, each once."""
    named = [row.of.split() for row in BY_CODE.values()]
    assert {name for names in named for name in names} <= {row.operation_id for row in ROWS}
    assert [names for names in named if len(set(names)) < len(names)] == []


def test_what_a_shopper_reads_has_no_names_of_the_api() -> None:
    """The detail of a refusal for the shopper is a sentence for people, with its figures and without them."""
    details = [one.detail for one in BY_CODE.values() if one.for_ == "shopper"]
    details += [describe(*FIELDS[code]).detail for code, (describe, _) in FIGURES.items() if code in FIELDS]
    details += [FIGURES["no_discount"][0]("buyXGetY", "2:1", items).detail for items in ("-", "items")]
    assert FIELDS.keys() == {code for code in FIGURES if BY_CODE[code].for_ == "shopper"}
    assert [one for one in details if "`" in one or "operator" in one] == []
