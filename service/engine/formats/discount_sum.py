"""Sums of amounts in Redis, in 10⁻⁴ units: they may pass 2⁶³, the most that one counter holds. In Lua:
lua/includes/discount_sum.lua."""

LOW, HIGH = "discount", "discountHigh"
"""The names of the counters of a book's sum of discounts."""
_HIGH_E4 = 10**9
"""The unit of HIGH."""


def join_sum(low: int, high: int) -> int:
    return low + high * _HIGH_E4


def sum_counters(name: str) -> tuple[str, str]:
    """The names of a sum's counters."""
    return name, f"{name}High"


def split_into(name: str, total_e4: int) -> dict[str, int]:
    """What to add to the counters of a sum to add the total, which may be negative; without zeros."""
    high, low = divmod(abs(total_e4), _HIGH_E4)
    sign = -1 if total_e4 < 0 else 1
    return {counter: sign * part for counter, part in zip(sum_counters(name), (low, high), strict=True) if part}
