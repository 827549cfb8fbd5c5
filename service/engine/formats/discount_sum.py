"""A book's sum of discounts in Redis, in 10⁻⁴ units: it may pass 2⁶³, the most that one counter holds. In Lua:
lua/includes/discount_sum.lua."""

LOW, HIGH = "discount", "discountHigh"
"""The names of its counters."""
_HIGH_E4 = 10**9
"""The unit of HIGH."""


def join_sum(low: int, high: int) -> int:
    return low + high * _HIGH_E4


def split_sum(total_e4: int) -> dict[str, int]:
    """What to add to the counters to add the total, which may be negative; without zeros."""
    high, low = divmod(abs(total_e4), _HIGH_E4)
    sign = -1 if total_e4 < 0 else 1
    return {name: sign * part for name, part in ((LOW, low), (HIGH, high)) if part}
