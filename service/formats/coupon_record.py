"""What Redis stores of a coupon, `c:<code>`: eight words, and six of the live lock of a code with a single use. Their
meaning is in lua/includes/coupon.lua, which writes and reads them."""

from typing import NamedTuple

UNLOCKED = "- - - - - -"


class CouponRecord(NamedTuple):
    """A record in its words, '-' for none; without arguments that of an idle code, which Redis doesn't store."""

    version: str = "0"
    user: str = "-"
    assigned_at: str = "-"
    uses: str = "0"
    max_uses: str = "-"
    off: str = "-"
    expires_at: str = "-"
    last: str = "-"
    """The event of its last redemption that stands."""
    lock: str = UNLOCKED

    def __str__(self) -> str:
        return " ".join(self)


IDLE = CouponRecord()


def parse_coupon_record(text: str) -> CouponRecord | None:
    """The inverse of str; None where nobody wrote it so."""
    return CouponRecord(*text.split(" ", 8)) if text.count(" ") == 13 else None


def is_locked(record: str | None) -> bool:
    """Whether a coupon's record names a lock, live or not."""
    return record is not None and not record.endswith(UNLOCKED)
