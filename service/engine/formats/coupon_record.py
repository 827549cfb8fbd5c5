"""A coupon's record in Redis, `c:<code>`: eight fields, and a single-use code's lock: seven, and an eighth where it
holds a price. directory_entry.py, coupon_state.py, comparisons and openings use it.

lua/includes/coupon.lua documents these fields, reads and writes them by position, as usual_*.lua of lua/fast/ do:
change all.
"""

from typing import NamedTuple

UNLOCKED = "- - - - - - -"


class CouponRecord(NamedTuple):
    """A record's fields, '-' for none. The defaults are an idle code's, which Redis doesn't store."""

    version: str = "0"
    user: str = "-"
    assigned_at: str = "-"
    uses: str = "0"
    max_uses: str = "-"
    off: str = "-"
    expires_at: str = "-"
    last: str = "-"
    """The event of its last standing redemption."""
    lock: str = UNLOCKED

    def __str__(self) -> str:
        return " ".join(self)


IDLE = CouponRecord()


def parse_coupon_record(text: str) -> CouponRecord | None:
    """The inverse of str; None for an invalid text."""
    return CouponRecord(*text.split(" ", 8)) if text.count(" ") in (14, 15) else None


def is_blocked(record: str | None) -> bool:
    """Whether a coupon's record says that an event of it is in quarantine."""
    parsed = parse_coupon_record(record) if record else None
    return parsed is not None and parsed.off in ("2", "3")  # blocked; blocked and switched off
