"""What requests, misses and locks are limited to, and how many were counted.

A minute begins with the first that it counts. The service's minutes are Redis's own, by its real clock, of which the
model knows nothing: while the machine walks none ends by itself, and the machine takes away what has ended on the still
clock. So of a minute's seconds nothing is compared: neither `Retry-After` of `rate_limited` and `too_many_misses` nor
the seconds that `RateLimit` names. That a minute ends, and when, is in tests/lua/test_rates.py."""

from dataclasses import dataclass, field

from service.engine.domain.configuration import BookRow
from service.engine.domain.limits import PUBLIC_ADDRESS_MISSES, BookLimits, KeyLimits

KEYS = ("shop", "till")
ADDRESSES = ("192.0.2.1", "198.51.100.7")
MINUTE_MS = 60_000

Counter = tuple[str, str]
"""Of what (requests, misses, address, book) and whose."""


@dataclass
class Limits:
    """Which key asks from where, and what goes for it."""

    key: str = KEYS[0]
    address: str = ADDRESSES[0]
    of_keys: dict[str, KeyLimits] = field(default_factory=lambda: dict.fromkeys(KEYS, KeyLimits()))
    of_books: BookLimits = field(default_factory=BookLimits)
    """The workspace's, of books that say nothing else."""
    counted: dict[Counter, tuple[int, int]] = field(default_factory=dict[Counter, tuple[int, int]])
    """When the counter's minute began, and how many it has."""

    def of_key(self, name: str) -> int | None:
        """The asking key's limit of this name."""
        return getattr(self.of_keys[self.key], name)

    def of_book(self, row: BookRow, name: str) -> int | None:
        """The book's, else the workspace's."""
        own = getattr(row.limits, name) if row.limits else None
        return getattr(self.of_books, name) if own is None else own

    def rates(self, is_public: bool) -> dict[Counter, int]:
        """The counters that a request is under, each with its limit."""
        address = self.of_key("address_misses_per_minute")
        if address is None and is_public:
            address = PUBLIC_ADDRESS_MISSES
        limits = {
            ("requests", self.key): self.of_key("requests_per_minute"),
            ("misses", self.key): self.of_key("misses_per_minute"),
            ("address", self.address): address,
        }
        return {counter: most for counter, most in limits.items() if most is not None}

    def used(self, counter: Counter) -> int:
        """How many were counted in its minute."""
        return self.counted.get(counter, (0, 0))[1]

    def count(self, counter: Counter, now: int) -> None:
        began, many = self.counted.get(counter, (now, 0))
        self.counted[counter] = began, many + 1

    def ended(self, now: int) -> list[Counter]:
        """Counters whose minute is over, which are forgotten with this."""
        ended = [counter for counter, (began, _) in self.counted.items() if now >= began + MINUTE_MS]
        for counter in ended:
            del self.counted[counter]
        return ended
