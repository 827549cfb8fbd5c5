"""The table of outcomes: whose turn each refusal is."""

import re

import pytest

from service.engine.domain.figures import FIGURES
from service.engine.domain.outcomes import BY_CODE

SHOPPER = re.compile(
    r"coupon_\w+|book_inactive|not_started|expired|out_of_stock|lock_lost|order_already_used|order_value_too_low|"
    r"no_discount|no_matching_items|not_combinable|user_\w+_limit|price_changed|budget_exhausted|period_limit"
)
"""The contract's list of what concerns a coupon, not the program."""
RETRY = (408, 429, 503)
FIELDS = {
    "not_started": ("0",),
    "expired": ("0",),
    "user_redemption_limit": ("1",),
    "user_code_limit": ("1",),
    "user_coupon_limit": ("1",),
    "out_of_stock": ("1",),
    "budget_exhausted": ("-",),
    "period_limit": ("0",),
    "order_value_too_low": ("20000", "10000", "USD", "2"),
    "no_discount": ("percentage", "100000", "-"),
    "price_changed": ("960000", "950000", "USD", "2"),
}
"""Figures of refusals for the shopper."""


@pytest.mark.parametrize("code", BY_CODE)
def test_each_refusal_says_whose_turn_it_is(code: str) -> None:
    """What a customer can understand is for the shopper, what passes for a retry, all else for the caller."""
    is_retry = BY_CODE[code].status in RETRY or code == "request_in_progress"
    expected = "retry" if is_retry else "shopper" if SHOPPER.fullmatch(code) else "caller"
    assert BY_CODE[code].for_ == expected


def test_what_a_shopper_reads_has_no_names_of_the_api() -> None:
    """The detail of a refusal for the shopper is a sentence for people, with its figures and without them."""
    details = [one.detail for one in BY_CODE.values() if one.for_ == "shopper"]
    details += [describe(*FIELDS[code]).detail for code, (describe, _) in FIGURES.items() if code in FIELDS]
    details += [FIGURES["no_discount"][0]("buyXGetY", "2:1", items).detail for items in ("-", "items")]
    assert FIELDS.keys() == {code for code in FIGURES if BY_CODE[code].for_ == "shopper"}
    assert [one for one in details if "`" in one or "operator" in one] == []
