"""The account of a card, as Redis stores it in `m:<bucket>`: comparisons expect it, storage counts it. In Lua:
lua/includes/cards.lua."""

from typing import NamedTuple

SUMS = ("issued", "credited", "spent", "closed", "held")
"""The words of an account, and the sums of a book's cards among its counters (discount_sum.py)."""


class CardAccount(NamedTuple):
    """Amounts in 10⁻⁴ units; `held_e4` is what stored locks hold, expired ones too."""

    issued_e4: int
    credited_e4: int = 0
    spent_e4: int = 0
    closed_e4: int = 0
    held_e4: int = 0

    def __str__(self) -> str:
        return " ".join(map(str, self))

    @property
    def funds_e4(self) -> int:
        """What is available or held; a card without is used up."""
        return self.issued_e4 + self.credited_e4 - self.spent_e4 - self.closed_e4


def parse_account(text: str) -> CardAccount | None:
    """The inverse of str; None for another text."""
    words = text.split(" ")
    if len(words) != len(SUMS) or not all(word.isascii() and word.isdigit() for word in words):
        return None
    return CardAccount(*map(int, words))


def held_by(hold: str) -> int:
    """What a lock holds of a card, by its price (lua/includes/pricing.lua); 0 without a price."""
    return int(hold.split(":", 4)[3]) if hold else 0
