"""The table of outcomes: whose turn each refusal is."""

import re

import pytest

from service.engine.domain.outcomes import BY_CODE

SHOPPER = re.compile(
    r"coupon_\w+|book_inactive|not_started|expired|out_of_stock|lock_lost|order_already_used|order_value_too_low|"
    r"no_discount|no_matching_items|not_combinable|user_\w+_limit|price_changed|budget_exhausted|period_limit"
)
"""The contract's list of what concerns a coupon, not the program."""
RETRY = (408, 429, 503)


@pytest.mark.parametrize("code", BY_CODE)
def test_each_refusal_says_whose_turn_it_is(code: str) -> None:
    """What a customer can understand is for the shopper, what passes for a retry, all else for the caller."""
    is_retry = BY_CODE[code].status in RETRY or code == "request_in_progress"
    expected = "retry" if is_retry else "shopper" if SHOPPER.fullmatch(code) else "caller"
    assert BY_CODE[code].for_ == expected
