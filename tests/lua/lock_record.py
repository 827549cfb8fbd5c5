"""A live lock, as Redis stores it: of a code with a single use in the coupon's record; of one with several in
`k:<code>`, by its holder and by its token. lua/includes/coupon.lua and locks.lua write and read it."""

from typing import NamedTuple


class LockRecord(NamedTuple):
    """A lock in its words, '-' for no order, '' for no price; of a code with several uses without `order_bucket`."""

    token: str
    user: str
    order: str
    order_bucket: str
    deadline: str
    started: str
    counted: str
    hold: str = ""

    def __str__(self) -> str:
        return " ".join(self).rstrip()

    @property
    def holder(self) -> str:
        """The field in `k:<code>`; that of the token, `=<token>`, holds this."""
        return f"{self.user} {self.order}"

    @property
    def of_holder(self) -> str:
        """What the holder's field holds."""
        return f"{self.token} {self.deadline} {self.started} {self.counted} {self.hold}".rstrip()


def parse_lock(text: str) -> LockRecord:
    """The inverse of str."""
    return LockRecord(*text.split(" "))


def parse_lock_of_several(holder: str, text: str) -> LockRecord:
    """The inverse of holder and of_holder."""
    (user, order), (token, *rest) = holder.split(" "), text.split(" ")
    return LockRecord(token, user, order, "", *rest)
