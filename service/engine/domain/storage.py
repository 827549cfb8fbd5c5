"""What a workspace's things take of Redis's memory, roughly, for its bound of storage: with usual names. With the
longest ones it is up to four times as much (docs/internals/decisions/0101-storage-of-a-workspace.md)."""

from typing import Literal, NamedTuple

MIB = 1 << 20
RESERVE = 1.1
"""Redemptions go on until so many times the bound."""
CODE_BYTES = 40
"""Of an idle code."""
BOOK_BYTES = 1024
USER_BYTES = 160
"""Of a user that was created."""
GIFT_BYTES = 120
"""Of an order with a gift."""
RECORD_BYTES, USE_BYTES, LOCK_BYTES = 250, 70, 300
CARD_BYTES = 110
"""Of a card's account."""
PERIOD_BYTES, SHARE_BYTES, ACCOUNT_BYTES = 50, 160, 100
"""Of a counter of a book's budgets; of what a lock holds of one; of what a user has spent of a book's."""
Mark = Literal["", "!1", "!2"]
"""In the settings of a workspace in Redis: nothing, at the bound, beyond the reserve."""


class Stored(NamedTuple):
    """What a workspace has, as lua/count_storage.lua counts it."""

    books: int = 0
    codes: int = 0
    records: int = 0
    """Codes with an owner, switched off, or of which all of several uses are spent."""
    uses: int = 0
    locks: int = 0
    """Locked codes: all uses of each."""
    lock_bytes: int = 0
    """Of locks on codes with several uses, and of their items on others."""
    cards: int = 0
    periods: int = 0
    shares: int = 0
    accounts: int = 0
    users: int = 0
    gifts: int = 0
    """Orders with a gift, also those whose gift was taken back."""
    kept_bytes: int = 0

    def __add__(self, other: tuple[int, ...]) -> "Stored":  # type: ignore[override]
        return Stored(*(one + more for one, more in zip(self, other, strict=True)))

    @property
    def used_bytes(self) -> int:
        return (
            self.books * BOOK_BYTES
            + self.codes * CODE_BYTES
            + self.records * RECORD_BYTES
            + self.uses * USE_BYTES
            + self.locks * LOCK_BYTES
            + self.lock_bytes
            + self.cards * CARD_BYTES
            + self.periods * PERIOD_BYTES
            + self.shares * SHARE_BYTES
            + self.accounts * ACCOUNT_BYTES
            + self.users * USER_BYTES
            + self.gifts * GIFT_BYTES
            + self.kept_bytes
        )


def mark_of(used_bytes: int, limit_mib: int) -> Mark:
    if used_bytes < limit_mib * MIB:
        return ""
    return "!1" if used_bytes < limit_mib * MIB * RESERVE else "!2"


def codes_bytes(codes: int, owned: int = 0) -> int:
    """Of new codes, so many of them with an owner."""
    return codes * CODE_BYTES + owned * RECORD_BYTES
